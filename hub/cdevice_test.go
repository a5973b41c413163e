package hub_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// cDevice is the device of device/c, which knows the protocol from
// proto/README.md alone, over all its starts.
type cDevice struct {
	t      *testing.T
	binary string
	args   []string

	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{} // the process is gone

	mu    sync.Mutex
	lines []string
}

// newCDevice compiles the device, with the sanitizers, for a device that is
// enrolled and dials addr.
func newCDevice(t *testing.T, h *hubtest.Hub, data, id, addr string) *cDevice {
	t.Helper()
	dir := t.TempDir()
	d := &cDevice{t: t, binary: filepath.Join(dir, "device"), args: []string{filepath.Join(dir, "device.json"), dir}}
	build := exec.Command("make", "-C", "../device/c", "BIN="+d.binary,
		"CFLAGS=-O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile device/c (make test installs what it needs): %v\n%s", err, out)
	}
	ca, err := os.ReadFile(filepath.Join(data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.MarshalIndent(map[string]string{
		"hub_url": "wss://" + addr + device.Path, "device_id": id,
		"credential": h.CreateDevice(t, id).Encode(), "ca_pem": string(ca),
	}, "", "  ")
	if err == nil {
		err = os.WriteFile(d.args[0], file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.kill)
	return d
}

func (d *cDevice) start() {
	d.t.Helper()
	d.cmd = exec.Command(d.binary, d.args...)
	d.cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0")
	d.cmd.Stderr = d.t.Output()
	output, err := d.cmd.StdoutPipe()
	if err == nil {
		d.input, err = d.cmd.StdinPipe()
	}
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		d.t.Fatalf("start the device: %v", err)
	}
	d.ended = make(chan struct{})
	go func() {
		defer close(d.ended)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			d.mu.Lock()
			d.lines = append(d.lines, lines.Text())
			d.mu.Unlock()
		}
		_ = d.cmd.Wait()
	}()
}

// kill is SIGKILL. It may be called again.
func (d *cDevice) kill() {
	if d.ended != nil {
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

// finish ends the input, and with it the device.
func (d *cDevice) finish() {
	d.t.Helper()
	_ = d.input.Close()
	hubtest.Eventually(d.t, "the device ends", func() bool {
		select {
		case <-d.ended:
			return true
		default:
			return false
		}
	})
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("the device ends with status %d", code)
	}
}

// measure has the device take readings, and prints "reading" for each.
func (d *cDevice) measure(values ...float64) {
	d.t.Helper()
	for _, v := range values {
		if _, err := fmt.Fprintf(d.input, "temperature %v\n", v); err != nil {
			d.t.Fatal(err)
		}
	}
}

// times is how often a line that begins so was printed, over all starts.
func (d *cDevice) times(prefix string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (d *cDevice) wait(prefix string, times int) {
	d.t.Helper()
	hubtest.Eventually(d.t, fmt.Sprintf("the device prints %q %d times", prefix, times), func() bool {
		return d.times(prefix) >= times
	})
}

// What proto/README.md says is enough for a device in C: proofs, readings over
// a dead link and a kill, commands with each end, at most once over a kill,
// and a renewed credential.
func TestDeviceInC(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	h := hubtest.Start(t, cfg)
	l := newLink(t, h.Addr)
	d := newCDevice(t, h, cfg.Data, "c-1", l.addr())
	order := func(key, name, arguments string) {
		t.Helper()
		send(t, h.Endpoint, "c-1", key, &operatorv1.CommandSpec{Name: name, Payload: &operatorv1.CommandSpec_Json{Json: arguments}})
	}
	stored := func(rows uint64) {
		t.Helper()
		hubtest.Eventually(t, fmt.Sprintf("%d rows are stored", rows), func() bool { return h.Count(t, "c-1") >= rows })
	}
	want := func(key, state string, code uint32, message string) {
		t.Helper()
		if c := await(t, h.Endpoint, key, state); c.Code != code || c.Message != message {
			t.Errorf("%s: code %d, %q; want %d, %q", key, c.Code, c.Message, code, message)
		}
	}

	// Readings that were taken before the first contact.
	l.down()
	d.start()
	d.measure(20, 20.5)
	l.up()
	stored(2)

	order("on", "set-relay", `{"on":true}`)
	if c := await(t, h.Endpoint, "on", "SUCCEEDED"); c.GetJson() != `{"was":false}` {
		t.Errorf("result %q", c.GetJson())
	}
	order("unknown", "open-hatch", `{}`)
	want("unknown", "REJECTED", 12, "no such command")
	order("wrong", "set-relay", `{"on":3}`)
	want("wrong", "REJECTED", 3, "argument on is not true or false")
	order("long", "count-down", `{"seconds":3000}`)
	order("waits", "set-relay", `{"on":false}`)
	d.wait("count-down", 1)
	for _, key := range []string{"waits", "long"} {
		await(t, h.Endpoint, key, map[string]string{"waits": "DELIVERED", "long": "RUNNING"}[key])
		if _, err := h.Commands.CancelCommand(t.Context(), connect.NewRequest(&operatorv1.CancelCommandRequest{Id: key})); err != nil {
			t.Fatal(err)
		}
	}
	want("waits", "CANCELED", 0, "it had not begun")
	want("long", "CANCELED", 0, "stopped")

	// What the hub does not hear, it hears from the next process.
	l.swallow("upstream")
	order("unheard", "set-relay", `{"on":false}`)
	d.wait("relay off", 1)
	d.measure(21, 21.5, 22)
	d.wait("reading", 5)
	d.kill()
	l.restore("upstream")
	d.start()
	d.measure(22.5)
	await(t, h.Endpoint, "unheard", "SUCCEEDED")
	stored(6)

	// A kill in the middle.
	order("interrupted", "count-down", `{"seconds":3000}`)
	order("behind", "set-relay", `{"on":true}`)
	await(t, h.Endpoint, "behind", "DELIVERED")
	d.wait("count-down", 2)
	if n := d.times("relay off"); n != 1 {
		t.Fatalf("relay off %d times: a command whose end the hub had not heard ran again after a restart", n)
	}
	d.kill()
	d.start()
	for _, key := range []string{"interrupted", "behind"} {
		want(key, "FAILED", 10, "interrupted by a restart; not run again")
	}

	if _, err := h.Devices.RotateDevice(t.Context(), connect.NewRequest(&operatorv1.RotateDeviceRequest{Id: "c-1"})); err != nil {
		t.Fatal(err)
	}
	d.wait("credential of generation 2", 1)
	order("renewed", "set-relay", `{"on":true}`)
	await(t, h.Endpoint, "renewed", "SUCCEEDED")
	d.finish()
	if on, off, downs := d.times("relay on"), d.times("relay off"), d.times("count-down"); on != 2 || off != 1 || downs != 2 {
		t.Errorf("relay on %d times, off %d, count-down %d; want 2, 1, 2", on, off, downs)
	}
	if rows := h.Count(t, "c-1"); rows != 6 {
		t.Errorf("%d rows; want 6", rows)
	}
}
