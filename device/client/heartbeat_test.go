package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// pipes is a network in memory, on which the clock of a bubble rules.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestSilentHubIsLeftAfterItsHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		accepted := make(chan *websocket.Conn, 8)
		up := websocket.Upgrader{Subprotocols: []string{device.Protocol}}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ws, err := up.Upgrade(w, r, nil); err == nil {
				accepted <- ws
			}
		})}
		go server.Serve(network)
		defer server.Close()
		reasons := make(chan error, 8)
		c := start(t, Config{
			URL: "ws://127.0.0.1:1", BindingNone: true, Credential: testCredential(1),
			NetDialContext: network.dial, FlushTimeout: -1,
			OnStateChange: func(s State, err error) {
				if s == Waiting {
					reasons <- err
				}
			},
		})
		conn := &peerConn{t: t, ws: <-accepted}
		conn.welcome(func(w *devicev1.Welcome) { w.HeartbeatIntervalS = 25 })
		go func() { // takes the pongs
			_ = conn.ws.SetReadDeadline(time.Time{})
			for {
				if _, _, err := conn.ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
		for range 3 {
			time.Sleep(34 * time.Second)
			if err := conn.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		pinged := time.Now()
		if err := <-reasons; !errors.Is(err, ErrHubSilent) {
			t.Fatalf("left because of %v", err)
		}
		if after := time.Since(pinged); after < 34*time.Second || after > 36*time.Second {
			t.Fatalf("left %v after the last ping, want 35 s", after)
		}
		c.cancel()
		c.wait(t)
		conn.ws.Close()
		for {
			select {
			case ws := <-accepted:
				ws.Close()
				continue
			default:
			}
			break
		}
	})
}
