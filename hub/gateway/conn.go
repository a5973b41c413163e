package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/session"
)

// Buffer sizes of a connection, in bytes. A read buffer holds a frame header
// and a control frame; larger reads go past it. Write buffers are shared.
const (
	readBufferBytes  = 256
	writeBufferBytes = 4 << 10
)

// closeWait bounds the write of a close frame.
const closeWait = 500 * time.Millisecond

// conn is a session.Conn over a WebSocket.
type conn struct {
	ws       *websocket.Conn
	gateway  *Gateway
	remote   string
	addr     netip.Addr // for admission
	activity session.Activity
	proved   bool // the reader's
	quiet    bool // the reader's: no frame has come since the last pong
	broken   error
	limit    int       // bytes of a message
	below    *stranger // below TLS; nil: not of a Listener
}

func newConn(g *Gateway, ws *websocket.Conn, addr netip.Addr, remote string) *conn {
	c := &conn{ws: ws, gateway: g, remote: remote, addr: addr, limit: session.MaxHelloBytes, below: strangerOf(ws.NetConn())}
	ws.SetReadLimit(session.MaxHelloBytes)
	ws.SetPingHandler(c.ping)
	ws.SetPongHandler(c.pong)
	ws.SetCloseHandler(noAnswer) // Close answers
	return c
}

func noAnswer(int, string) error { return nil }

// Watch implements session.Conn.
func (c *conn) Watch(a session.Activity) { c.activity = a }

func (c *conn) ping(payload string) error {
	c.allowControl()
	c.broken = c.activity.Pinged([]byte(payload))
	return c.broken
}

func (c *conn) pong(string) error {
	c.allowControl()
	if c.quiet {
		c.trim()
	}
	c.quiet = true
	c.broken = c.activity.Ponged()
	return c.broken
}

// ReadFrame implements session.Conn. A buffer is taken from the pool only
// when a frame has begun to come.
func (c *conn) ReadFrame() (*session.Buffer, error) {
	c.allowMessage()
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, c.readError(err)
	}
	if kind != websocket.BinaryMessage {
		return nil, &session.Violation{Code: session.CloseUnsupportedData}
	}
	c.quiet = false
	buf := session.NewBuffer()
	for {
		if len(buf.B) == cap(buf.B) {
			buf.B = append(buf.B, 0)[:len(buf.B)]
		}
		n, err := r.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		c.activity.Heard()
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			buf.Free()
			return nil, c.readError(err)
		}
	}
}

// readError gives the error of the WebSocket library the meaning that a
// session knows. The library has no types for broken rules: its texts tell
// them from a broken connection, whose errors are of package net or io.
func (c *conn) readError(err error) error {
	if c.broken != nil {
		return c.broken
	}
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.As(err, &closed):
		if closed.Code == websocket.CloseAbnormalClosure {
			return io.ErrUnexpectedEOF
		}
		return &session.PeerClosed{Code: closed.Code, Reason: closed.Text}
	case errors.Is(err, websocket.ErrReadLimit), errors.Is(err, errPieces):
		return &session.Violation{Code: session.CloseTooBig}
	case errors.As(err, &network):
		if network.Timeout() {
			return os.ErrDeadlineExceeded
		}
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return err
	case bytes.HasPrefix([]byte(err.Error()), []byte("websocket: ")):
		return &session.Violation{Code: session.CloseProtocolError}
	}
	return err
}

// WriteFrame implements session.Conn.
func (c *conn) WriteFrame(frame []byte, deadline time.Time) error {
	_ = c.ws.SetWriteDeadline(deadline)
	return writeError(c.ws.WriteMessage(websocket.BinaryMessage, frame))
}

// WritePing implements session.Conn.
func (c *conn) WritePing(deadline time.Time) error {
	return writeError(c.ws.WriteControl(websocket.PingMessage, nil, deadline))
}

// WritePong implements session.Conn.
func (c *conn) WritePong(payload []byte, deadline time.Time) error {
	return writeError(c.ws.WriteControl(websocket.PongMessage, payload, deadline))
}

// writeError undoes what the library hides: its time-outs are not
// os.ErrDeadlineExceeded any more.
func writeError(err error) error {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// SetReadDeadline implements session.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.ws.NetConn().SetReadDeadline(t) }

// SetWriteDeadline implements session.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.ws.NetConn().SetWriteDeadline(t) }

// Authenticated implements session.Conn.
func (c *conn) Authenticated(maxFrame int) {
	c.proved = true
	c.limit = maxFrame
	c.trim() // of the handshake's
	c.ws.SetReadLimit(int64(maxFrame))
	c.gateway.handshakeDone(c.addr, true)
}

// Close implements session.Conn. The socket is closed only after the peer has
// had time to take in the close frame: closing it while bytes of the peer are
// unread would reset the connection and could lose the frame on its way.
func (c *conn) Close(code session.CloseCode, reason string, linger time.Duration) {
	err := c.ws.WriteControl(websocket.CloseMessage,
		websocket.FormatCloseMessage(int(code), shorten(reason)), time.Now().Add(closeWait))
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		c.Kill()
		return
	}
	nc := c.ws.NetConn()
	if linger > 0 {
		c.linger(c.beneath(nc), linger)
	}
	// The alert that crypto/tls would send at Close could block for 5 s.
	_ = nc.SetWriteDeadline(time.Now().Add(closeWait))
	if t, ok := nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	c.Kill()
}

// maxLingerBytes of a peer that goes on sending are read after the close
// frame.
const maxLingerBytes = 1 << 20

var lingerBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// linger reads and throws away until the peer has answered or closed.
func (c *conn) linger(nc net.Conn, d time.Duration) {
	_ = nc.SetReadDeadline(time.Now().Add(d))
	buf := lingerBuffers.Get().(*[4 << 10]byte)
	defer lingerBuffers.Put(buf)
	for total := 0; total < maxLingerBytes; {
		n, err := nc.Read(buf[:])
		total += n
		if err != nil || answersClose(buf[:n]) {
			return
		}
	}
}

// answersClose reports whether what came in one read is or ends with a masked
// close frame with a code and no reason, as WebSocket libraries answer.
func answersClose(b []byte) bool {
	const size = 2 + 4 + 2 // header, mask, code
	return len(b) >= size && b[len(b)-size] == 0x88 && b[len(b)-size+1] == 0x82
}

// shorten a reason to what fits into a close frame.
func shorten(reason string) string {
	const most = 123
	if len(reason) <= most {
		return reason
	}
	return string(bytes.ToValidUTF8([]byte(reason[:most]), nil))
}

// Kill implements session.Conn: it closes the socket below TLS, without the
// alert that may block.
func (c *conn) Kill() {
	nc := c.ws.NetConn()
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	_ = nc.Close()
}

// Binding implements session.Conn.
func (c *conn) Binding() []byte {
	t, ok := c.ws.NetConn().(*tls.Conn)
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	// TLS 1.2 without extended master secret has no exporter.
	value, err := state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes)
	if err != nil {
		return nil
	}
	return value
}

// AllowsUnbound implements session.Conn.
func (c *conn) AllowsUnbound() bool { return c.gateway.cfg.AllowUnbound }

// RemoteAddr implements session.Conn.
func (c *conn) RemoteAddr() string { return c.remote }
