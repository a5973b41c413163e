package hub_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// crowdEnv makes this test binary a crowd: "address number". The sockets are
// in a process of their own because one may have only so many.
const crowdEnv = "TETHERLINE_TEST_CROWD"

// crowdMain is for TestMain: it opens the sockets, a third of them with the
// first bytes of a TLS handshake, says so, and holds them until its input
// ends.
func crowdMain() {
	text := os.Getenv(crowdEnv)
	if text == "" {
		return
	}
	addr, number, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	held := make([]net.Conn, 0, n)
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if i%3 == 0 {
			_, _ = c.Write([]byte{0x16, 0x03, 0x01, 0x02})
		}
		held = append(held, c)
	}
	fmt.Println("holding", len(held))
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// startCrowd returns when a crowd of n is connected; it goes with the test.
func startCrowd(t testing.TB, addr string, n int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", crowdEnv, addr, n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "holding") {
		t.Fatalf("the crowd says %q: %v", line, err)
	}
}

// 10,000 connections that say nothing neither disturb the devices that are
// there nor keep a new one out, nor take more than their share of the hub.
func TestTenThousandHalfOpenConnections(t *testing.T) {
	h := hubtest.Start(t, hubtest.Config(t))
	honest := newFlock(t, h.Endpoint, 3, nil)
	honest.publish(t, 5*time.Millisecond)
	honest.awaitAcks(t, []int{0, 0, 0})
	before := descriptors(t)
	startCrowd(t, h.Addr, 10_000)
	hubtest.Eventually(t, "most of the crowd is refused", func() bool {
		return metric(t, h.Endpoint, "tetherline_strangers_refused_total") >= 5000
	})
	if n := descriptors(t) - before; n > 5000 {
		t.Errorf("the crowd holds %d descriptors of the hub; want at most 5000", n)
	}
	wantSteady(t, honest)

	// A device at another address is not the crowd's neighbour.
	late := newGauge(t, h.Endpoint, "late", func(cfg *client.Config) { cfg.NetDialContext = dialFrom("127.0.0.2") })
	if err := late.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	late.flush(t)
	// One at the same address gets in where the oldest have had their time.
	near := newGauge(t, h.Endpoint, "near", nil)
	if err := near.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	near.flush(t)
	wantSteady(t, honest)
	wantAllStored(t, h.Endpoint, honest)
}

// dialFrom dials with an address of its own.
func dialFrom(local string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	return d.DialContext
}

// descriptors that this process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// dawdlers are peers that are too slow, each in its own way. dial has opened
// TCP; what it writes then never ends.
var dawdlers = map[string]func(t testing.TB, h hubtest.Endpoint) net.Conn{
	"TLS handshake": func(t testing.TB, h hubtest.Endpoint) net.Conn {
		c := dialTCP(t, h)
		writeAll(t, c, "\x16\x03\x01\x02\x00\x01")
		return c
	},
	"header": func(t testing.TB, h hubtest.Endpoint) net.Conn {
		c := dialTLS(t, h)
		writeAll(t, c, "GET "+device.Path+" HTTP/1.1\r\nHost: x\r\nUpgrade: webs")
		return c
	},
	"body of a device": func(t testing.TB, h hubtest.Endpoint) net.Conn {
		c := dialTLS(t, h)
		writeAll(t, c, "POST "+device.Path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
		return c
	},
	"body of an operator": func(t testing.TB, h hubtest.Endpoint) net.Conn {
		c := dialTLS(t, h)
		writeAll(t, c, "POST /tetherline.operator.v1.DeviceService/GetDevice HTTP/1.1\r\nHost: x\r\n"+
			"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
		return c
	},
	"hello": func(t testing.TB, h hubtest.Endpoint) net.Conn {
		p := dialPeer(t, h)
		writeAll(t, p.ws.NetConn(), "\x82")
		return p.ws.NetConn()
	},
}

// Whoever is slow, at whatever step, is cut off in the time of that step.
func TestDawdlersAreCutOff(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	honest := newFlock(t, h.Endpoint, 2, nil)
	honest.publish(t, 20*time.Millisecond)
	honest.awaitAcks(t, []int{0, 0})
	type end struct {
		name string
		err  error
	}
	ends := make(chan end)
	for name, dial := range dawdlers {
		c := dial(t, h.Endpoint)
		_ = c.SetReadDeadline(time.Now().Add(hubtest.Patience))
		go func() {
			_, err := io.Copy(io.Discard, c)
			ends <- end{name, err}
		}()
	}
	for range dawdlers {
		if e := <-ends; isTimeout(e.err) {
			t.Errorf("%s: still open after %v", e.name, hubtest.Patience)
		}
	}
	wantMetric(t, h.Endpoint, "tetherline_strangers_speechless_total", 1)
	wantMetric(t, h.Endpoint, `tetherline_handshakes_total{outcome="timeout"}`, 0)
	wantSteady(t, honest)
	wantAllStored(t, h.Endpoint, honest)
}

func dialTCP(t testing.TB, h hubtest.Endpoint) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", h.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialTLS(t testing.TB, h hubtest.Endpoint) net.Conn {
	t.Helper()
	c := tls.Client(dialTCP(t, h), &tls.Config{RootCAs: h.Roots, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func writeAll(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}
