package hub_test

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// bareServer is the least that a WebSocket server with TLS can be on the
// library that the hub is built on: it reads, and does nothing else. What it
// costs is what no hub can be without.
type bareServer struct {
	Cert, Key string // PEM files
	Dir       string // for its word on its memory
}

func bareServerRole(argument string) error {
	var a bareServer
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(a.Cert, a.Key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hubtest.ReportMemory(a.Dir)
	upgrader := websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
			go func() {
				buf := make([]byte, 512)
				for {
					_, r, err := ws.NextReader()
					if err != nil {
						return
					}
					for err == nil {
						_, err = r.Read(buf)
					}
				}
			}()
		}
	})}
	failed := make(chan error, 1)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	go func() { failed <- server.Serve(tls.NewListener(l, config)) }()
	if err := say(bufio.NewReader(os.Stdin), l.Addr().String()); err != nil {
		return nil // the end
	}
	return <-failed
}

// bareDevices connect to a bareServer and send what devices of a hub would.
type bareDevices struct {
	Addr    string
	CA      []byte
	Devices int
	Frames  int // of each, of Bytes, before it holds still
	Bytes   int
	Load    *sideLoad // once told to go on, instead of all that: send frames of Bytes for a while, and say how long it took until the server had read them
	Storm   bool      // compute proofs as devices do; when told to go on after that, cut all, connect again, and say how long it took
}

func bareDevicesRole(argument string) error {
	var a bareDevices
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CA)
	pool := new(sync.Pool)
	dialers := make([]websocket.Dialer, a.Devices)
	for i := range dialers {
		dialers[i] = websocket.Dialer{
			TLSClientConfig: &tls.Config{
				RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1",
				ClientSessionCache: tls.NewLRUClientSessionCache(1),
			},
			ReadBufferSize: 256, WriteBufferSize: 4096, WriteBufferPool: pool,
		}
	}
	conns := make([]*websocket.Conn, a.Devices)
	connect := func() error {
		var dialling errgroup.Group
		dialling.SetLimit(64)
		for i := range conns {
			dialling.Go(func() (err error) {
				if conns[i], _, err = dialers[i].Dial("wss://"+a.Addr+device.Path, nil); err != nil || !a.Storm {
					return err
				}
				return computeProofs(conns[i].NetConn().(*tls.Conn))
			})
		}
		return dialling.Wait()
	}
	began := time.Now()
	if err := connect(); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	first := time.Since(began)
	input := bufio.NewReader(os.Stdin)
	if err := say(input, "connected"); err != nil {
		return err
	}
	if a.Load != nil {
		result, err := a.Load.run(len(conns), func(i int) (sideSender, error) { return bareSender{conns[i], make([]byte, a.Bytes)}, nil })
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	frame := make([]byte, a.Bytes)
	for range a.Frames {
		for _, ws := range conns {
			if err := ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
				return err
			}
		}
	}
	if say(input, "settled") != nil || !a.Storm {
		return nil
	}
	for _, ws := range conns {
		_ = ws.NetConn().(*tls.Conn).NetConn().Close()
	}
	began = time.Now()
	if err := connect(); err != nil {
		return fmt.Errorf("connect again: %w", err)
	}
	fmt.Println(first.Seconds(), time.Since(began).Seconds())
	return nil
}

// computeProofs does what a device computes for the handshake of the protocol:
// the channel binding, its own proof, and that of the hub.
func computeProofs(c *tls.Conn) error {
	t := device.Transcript{DeviceID: "load-000000", Generation: 1}
	_, _ = rand.Read(t.DeviceNonce[:]) // it never fails
	state := c.ConnectionState()
	var err error
	if t.Binding, err = state.ExportKeyingMaterial(device.ExporterLabel, nil, device.BindingBytes); err != nil {
		return err
	}
	var secret device.Secret
	proof := secret.DeviceProof(&t)
	if secret.VerifyHub(&t, proof[:]) {
		return errors.New("the proof of a device is one of a hub")
	}
	return nil
}
