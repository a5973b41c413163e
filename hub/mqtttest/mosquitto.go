// Package mqtttest starts real Mosquitto brokers for tests and connects real
// MQTT clients to them. Only tests import it.
package mqtttest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/porttest"
)

// Patience is how long a test waits for something that must come.
const Patience = 3 * time.Minute

// startTries: the free port that was found may be taken before Mosquitto
// binds it.
const startTries = 5

// MosquittoOptions are those of a broker. The zero value lets everybody do
// everything, without TLS, and keeps nothing across Stop and Start.
type MosquittoOptions struct {
	// Persistent keeps sessions, queued and retained messages on disk. They
	// survive Stop, which ends Mosquitto in order, not Kill: Mosquitto
	// writes them at its end, and every AutosaveEach changes.
	Persistent   bool
	AutosaveEach int // 0: only at its end

	// Users are names and passwords; nil: nobody needs one.
	Users map[string]string
	// ACL are lines of an acl_file, as "user gear", "topic read a/#"; nil:
	// everybody may do everything.
	ACL []string

	TLS           bool // with a certificate of the broker's own CA
	ClientCertTLS bool // clients must have a certificate of it too

	MaxInflight   int  // max_inflight_messages; 0: Mosquitto's own, 20
	MaxQueued     int  // max_queued_messages; 0: a million
	MaxPacketSize int  // max_packet_size, bytes; 0: no bound
	Nagle         bool // Mosquitto's own delay of small packets, off here else

	Lines []string // further lines of mosquitto.conf
}

// Broker is a running Mosquitto. Its methods are for one goroutine.
type Broker struct {
	Endpoint
	Addr string // host:port

	dir    string // of its config, certificates and persistence
	binary string
	log    *tail

	cmd    *exec.Cmd // nil: stopped
	exited chan struct{}
}

// StartMosquitto runs a broker on a free loopback port until the test ends.
// Its log is part of the test's output when the test fails.
func StartMosquitto(t testing.TB, o MosquittoOptions) *Broker {
	t.Helper()
	b := &Broker{dir: t.TempDir(), binary: findMosquitto(t), log: &tail{}}
	t.Cleanup(func() {
		b.end(t, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("log of mosquitto:\n%s", b.log)
		}
	})
	if o.TLS || o.ClientCertTLS {
		b.TLS = b.makeCertificates(t, o.ClientCertTLS)
	}
	for try := 1; ; try++ {
		b.setAddr(porttest.Free(t))
		b.writeConfig(t, o)
		err := b.run()
		if err == nil {
			return b
		}
		if try == startTries {
			t.Fatalf("start mosquitto: %v\n%s", err, b.log)
		}
	}
}

// Stop ends the broker in order (SIGTERM) and returns when it has. Clients
// lose their connections.
func (b *Broker) Stop(t testing.TB) {
	t.Helper()
	b.end(t, syscall.SIGTERM)
}

// Kill ends the broker as a crash does (SIGKILL).
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	b.end(t, syscall.SIGKILL)
}

// Start runs a stopped broker again: same port, same config, and with
// Persistent what it had kept.
func (b *Broker) Start(t testing.TB) {
	t.Helper()
	if b.cmd != nil {
		t.Fatal("mosquitto runs already")
	}
	if err := b.run(); err != nil {
		t.Fatalf("start mosquitto again: %v\n%s", err, b.log)
	}
}

// PID is the process id of a broker that runs.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Log is the last part of what the broker has written.
func (b *Broker) Log() string { return b.log.String() }

func findMosquitto(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("mosquitto is not installed: deploy/test-deps installs it where it may, and says how where not")
	return ""
}

func (b *Broker) setAddr(addr string) {
	b.Addr, b.URL = addr, "tcp://"+addr
	if b.TLS != nil {
		b.URL = "ssl://" + addr
	}
}

// run starts the process and waits until it takes connections.
func (b *Broker) run() error {
	cmd := exec.Command(b.binary, "-c", filepath.Join(b.dir, configFile))
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	b.cmd, b.exited = cmd, exited
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-exited:
			b.cmd = nil
			return errors.New(cmd.ProcessState.String())
		case <-time.After(5 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", b.Addr); err == nil {
			_ = conn.Close()
			select {
			case <-exited:
				continue
			default:
				return nil
			}
		}
	}
	_ = cmd.Process.Kill()
	<-exited
	b.cmd = nil
	return fmt.Errorf("takes no connections within %v", Patience)
}

func (b *Broker) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(signal)
	select {
	case <-b.exited:
	case <-time.After(Patience):
		_ = b.cmd.Process.Kill()
		<-b.exited
		t.Errorf("mosquitto did not end within %v", Patience)
	}
	b.cmd = nil
}

// tail keeps the last part of a log.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// tailBytes bounds a tail, roughly.
const tailBytes = 32 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if n := l.text.Len() - tailBytes; n > tailBytes {
		l.text.Next(n)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.text.String())
}

func (b *Broker) write(t testing.TB, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(b.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Endpoint is a broker as clients reach it.
type Endpoint struct {
	URL string      // tcp://host:port, or ssl:// with TLS
	TLS *tls.Config // of clients; nil: no TLS
	// User and Password are those of clients that name none; "": none.
	User, Password string
}
