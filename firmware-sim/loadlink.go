package firmwaresim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	credential "github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Bounds of a connection of a load.
const (
	loadDialTimeout  = 30 * time.Second // from TCP to the Welcome
	loadWriteTimeout = 30 * time.Second
	loadReadBytes    = 512 // a hub's frame is an Ack, and seldom more
)

var loadWriteBuffers sync.Pool

// loadLink is the smallest client of the device protocol that proves itself,
// has the hub prove itself, and keeps the hub's window.
type loadLink struct {
	ws           *websocket.Conn
	welcome      *devicev1.Welcome
	windowFrames int
	windowBytes  int
	frameBytes   int // of a frame, at most
}

// dialLoad connects a device and does the handshake.
func dialLoad(ctx context.Context, r *loadRun, d *loadDevice) (*loadLink, error) {
	ctx, cancel := context.WithTimeout(ctx, loadDialTimeout)
	defer cancel()
	dialer := websocket.Dialer{
		Subprotocols:    []string{credential.Protocol},
		ReadBufferSize:  loadReadBytes,
		WriteBufferSize: 4 << 10,
		WriteBufferPool: &loadWriteBuffers,
		NetDialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, d.tls)
			if err := secure.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return secure, nil
		},
	}
	ws, answer, err := dialer.DialContext(ctx, r.hub, nil)
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("%w: %s", err, answer.Status)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	ws.SetReadLimit(maxLoadFrame)
	l := &loadLink{ws: ws}
	if err := l.prove(d); err != nil {
		return nil, errors.Join(fmt.Errorf("handshake: %w", err), ws.Close())
	}
	l.windowFrames = max(int(l.welcome.WindowFrames), 1)
	l.windowBytes = int(l.welcome.WindowBytes)
	l.frameBytes = r.frameBytes
	if l.frameBytes > int(l.welcome.MaxFrameBytes) || l.frameBytes > l.windowBytes {
		return nil, errors.Join(fmt.Errorf("frames of %d bytes are more than the hub takes", l.frameBytes), ws.Close())
	}
	return l, nil
}

// prove does Challenge, Hello and Welcome.
func (l *loadLink) prove(d *loadDevice) error {
	_ = l.ws.SetReadDeadline(time.Now().Add(loadDialTimeout))
	frame, err := l.readFrame()
	if err != nil {
		return err
	}
	challenge := frame.GetChallenge()
	if len(challenge.GetHubNonce()) != credential.NonceBytes {
		return errors.New("no usable Challenge")
	}
	c := &d.credential
	t := credential.Transcript{DeviceID: c.ID, Generation: c.Generation, BootID: d.boot}
	copy(t.HubNonce[:], challenge.HubNonce)
	_, _ = rand.Read(t.DeviceNonce[:]) // it never fails
	secure, ok := l.ws.NetConn().(*tls.Conn)
	if !ok {
		return errors.New("channel binding needs TLS")
	}
	state := secure.ConnectionState()
	if t.Binding, err = state.ExportKeyingMaterial(credential.ExporterLabel, nil, credential.BindingBytes); err != nil {
		return fmt.Errorf("channel binding: %w", err)
	}
	proof := c.Secret.DeviceProof(&t)
	hello, err := proto.Marshal(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_Hello{Hello: &devicev1.Hello{
		DeviceId: c.ID, Generation: c.Generation, DeviceNonce: t.DeviceNonce[:], DeviceProof: proof[:], BootId: d.boot[:],
		BindingType: devicev1.BindingType_BINDING_TYPE_TLS_EXPORTER, Firmware: "load 1.0",
	}}})
	if err != nil {
		return err
	}
	if err := l.write(hello); err != nil {
		return err
	}
	if frame, err = l.readFrame(); err != nil {
		return err
	}
	l.welcome = frame.GetWelcome()
	if l.welcome == nil || !c.Secret.VerifyHub(&t, l.welcome.HubProof) {
		return errors.New("the hub has not proved itself")
	}
	return l.ws.SetReadDeadline(time.Time{})
}

func (l *loadLink) readFrame() (*devicev1.HubFrame, error) {
	_, data, err := l.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	f := new(devicev1.HubFrame)
	return f, proto.Unmarshal(data, f)
}

func (l *loadLink) write(frame []byte) error {
	_ = l.ws.SetWriteDeadline(time.Now().Add(loadWriteTimeout))
	return l.ws.WriteMessage(websocket.BinaryMessage, frame)
}

// read what the hub says, until the connection ends.
func (l *loadLink) read(d *loadDevice) error {
	for {
		_, r, err := l.ws.NextReader()
		if err != nil {
			return err
		}
		// Frames are small and rare beside what is sent: no buffer is held
		// while nothing comes.
		var head [64]byte
		n, err := io.ReadFull(r, head[:])
		data := head[:n]
		if err == nil {
			rest, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			data = append(data, rest...)
		} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if seq, ok := ackOf(data); ok {
			d.acknowledged(seq)
			continue
		}
		f := new(devicev1.HubFrame)
		if err := proto.Unmarshal(data, f); err != nil {
			return fmt.Errorf("a frame of the hub: %w", err)
		}
		switch {
		case f.GetReject() != nil:
			d.load.rejected.Add(1)
			err := fmt.Errorf("frame rejected: %s: %s", f.GetReject().Code, f.GetReject().Detail)
			d.load.failure.Store(&err)
		case f.GetThrottle() != nil:
			d.throttled(f.GetThrottle())
		}
	}
}

// ackOf reads the commonest frame without allocating.
func ackOf(b []byte) (seq uint64, ok bool) {
	const frameAck, ackSeq = 3, 1
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != frameAck || typ != protowire.BytesType {
		return 0, false
	}
	body, m := protowire.ConsumeBytes(b[n:])
	if m < 0 || n+m != len(b) {
		return 0, false
	}
	num, typ, n = protowire.ConsumeTag(body)
	if n < 0 || num != ackSeq || typ != protowire.VarintType {
		return 0, false
	}
	seq, m = protowire.ConsumeVarint(body[n:])
	return seq, m > 0 && n+m == len(body)
}

// bye closes the connection in good order, as far as that goes at once.
func (l *loadLink) bye() {
	_ = l.ws.WriteControl(websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	_ = l.ws.Close()
}

// cut drops the connection without a word.
func (l *loadLink) cut() error {
	c := l.ws.NetConn()
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return c.Close()
}
