package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// screen is a real terminal: what the program writes can be read, and keys
// can be pressed.
type screen struct {
	master, slave *os.File

	mu   sync.Mutex
	text strings.Builder
	read chan struct{} // closed when the terminal has gone
}

func newScreen(t *testing.T, width, height uint16) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}
	s := &screen{master: master, slave: slave, read: make(chan struct{})}
	go func() {
		defer close(s.read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = slave.Close() // the master's read ends when nobody has the other side
		<-s.read
		_ = master.Close()
	})
	return s
}

func (s *screen) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, part string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !strings.Contains(s.seen(), part) {
		if time.Now().After(deadline) {
			t.Fatalf("%q never came: %q", part, s.seen())
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func topPeer(t *testing.T) *peer {
	p := newPeer(t)
	now := timestamppb.Now()
	always(p, rpc.HubServiceGetStatusProcedure, &operatorv1.GetStatusRequest{}, &operatorv1.GetStatusResponse{
		Ready: true, Node: "n1", Store: "sqlite", Started: now, Now: now, Devices: 1234, DevicesOnline: 2, Buffer: &operatorv1.GetStatusResponse_Buffer{}})
	always(p, rpc.DeviceServiceListDevicesProcedure, &operatorv1.ListDevicesRequest{}, &operatorv1.ListDevicesResponse{Devices: []*operatorv1.Device{
		{Id: "a-quiet", Presence: &operatorv1.Presence{Online: true, Firmware: "\x1b[31m" + strings.Repeat("very", 40)}}, {Id: "b-busy", Presence: &operatorv1.Presence{Online: true}}}})
	streams(p, rpc.TelemetryServiceWatchRowsProcedure, func(ctx context.Context, _ *operatorv1.WatchRowsRequest, send func(*operatorv1.WatchRowsResponse)) error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			send(&operatorv1.WatchRowsResponse{Rows: []*operatorv1.WatchRowsResponse_Row{{DeviceId: "b-busy", Time: timestamppb.Now(), Values: map[string]*operatorv1.Value{"x": double(1), "y": double(2)}}}})
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	return p
}

func TestTopOnce(t *testing.T) {
	p := topPeer(t)
	for long := 300 * time.Millisecond; ; long *= 2 { // a busy machine may take longer for the first rows
		got := p.hubctl("top", "--once", "--interval", long.String()).want(t, exitOK).out
		wantContains(t, got, "devices 2 of 1,234 online", "ready", `\x1b[31m`)
		busy, quiet := strings.Index(got, "b-busy"), strings.Index(got, "a-quiet")
		if busy >= 0 && quiet > busy && regexp.MustCompile(`b-busy +[1-9][0-9.]* +[1-9]`).MatchString(got) {
			break
		}
		if long > 30*time.Second {
			t.Fatalf("page:\n%s", got)
		}
	}
	p.hubctl("top").want(t, exitUsage) // no terminal
	p.hubctl("top", "--once", "-o", "json").want(t, exitUsage)
}

func TestTopTakesTheScreenAndGivesItBack(t *testing.T) {
	p := topPeer(t)
	s := newScreen(t, 60, 12)
	before, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	env, ended := p.env(), make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"top", "--interval", "100ms"}, s.slave, s.slave, s.slave, func(k string) string { return env[k] })
	}()
	s.await(t, "b-busy")
	if _, err := s.master.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-ended:
		if code != exitOK {
			t.Errorf("code %d", code)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("q did not end it")
	}
	s.await(t, "\x1b[?1049l")
	after, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal is not as it was")
	}
	if strings.Contains(s.seen(), "\x1b[31m") {
		t.Error("a device painted the screen")
	}
}

// On a terminal a table stays within its width.
func TestTableFitsTheTerminal(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.DeviceServiceListDevicesProcedure, &operatorv1.ListDevicesRequest{}, &operatorv1.ListDevicesResponse{Total: 1, Devices: []*operatorv1.Device{
		{Id: "greenhouse-north-1", Enabled: true, Kind: "device", Labels: map[string]string{"description": strings.Repeat("wide 温室 ", 20)},
			Presence: &operatorv1.Presence{Online: true, Firmware: "1.2.3-beta", Reason: "heartbeat missed"}}}})
	s := newScreen(t, 70, 24)
	env := p.env()
	if code := run(t.Context(), []string{"device", "ls"}, strings.NewReader(""), s.slave, s.slave, func(k string) string { return env[k] }); code != exitOK {
		t.Fatalf("code %d: %s", code, s.seen())
	}
	s.await(t, "greenhouse-north-1") // whole
	s.await(t, "…")
	for _, line := range strings.Split(s.seen(), "\r\n") {
		wide := len([]rune(line)) + strings.Count(line, "温") + strings.Count(line, "室")
		if wide > 70 {
			t.Errorf("%d cells: %q", wide, line)
		}
	}
	if piped := p.hubctl("device", "ls").want(t, exitOK); strings.Contains(piped.out, "…") {
		t.Errorf("a pipe gets less than everything: %s", piped.out)
	}
}
