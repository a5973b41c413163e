package jsbuffer_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// crashDir names the environment variable that makes the test binary the
// process that is killed.
const crashDir = "JSBUFFER_CRASH_DIR"

// printer says on standard output what is durable.
type printer struct{ device int }

func (p printer) Durable(seq uint64) { fmt.Printf("%d %d\n", p.device, seq) }

// crash appends entries of four devices until it is killed.
func crash(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	node, err := natsd.Start(ctx, natsd.Config{Dir: dir, Name: "test", Logger: quiet()})
	fail(err)
	quarantine, err := jsbuffer.OpenQuarantine(ctx, node.JetStream(), jsbuffer.QuarantineConfig{})
	fail(err)
	buffer, err := jsbuffer.Open(ctx, node.JetStream(), node.Conn(), jsbuffer.Config{
		Quarantine: quarantine, Logger: quiet(), ChunkAge: time.Millisecond,
	})
	fail(err)
	for seq := uint64(1); ; seq++ {
		for device := range 4 {
			e := sized(deviceName(device), 100)
			e.Received = int64(seq)
			for buffer.Append(e, seq, printer{device}) != nil {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// Promise 1: what was reported durable before a SIGKILL is there after it.
func TestDurableSurvivesSIGKILL(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dir := t.TempDir()
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		var problems bytes.Buffer
		cmd.Stderr = &problems
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := 100 + rand.IntN(500) // after so many reports
		durable := map[string]uint64{}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var device int
			var seq uint64
			if _, err := fmt.Sscan(lines.Text(), &device, &seq); err != nil {
				break // the last line may be cut
			}
			durable[deviceName(device)] = seq
			if n == kill {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if len(durable) != 4 {
			t.Fatalf("the process reported %d devices before it died:\n%s", len(durable), problems.String())
		}
		t.Run(strconv.Itoa(kill), func(t *testing.T) { checkAllThere(t, dir, durable) })
	}
}

func checkAllThere(t *testing.T, dir string, durable map[string]uint64) {
	buffer, _ := openOn(t, startNode(t, dir), jsbuffer.Config{})
	next := map[string]int64{}
	missing := func() bool {
		for device, seq := range durable {
			if next[device] < int64(seq) {
				return true
			}
		}
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for missing() {
		chunks, err := buffer.Fetch(ctx, 64)
		if err != nil {
			t.Fatalf("fetch: %v; found up to %v, durable were %v", err, next, durable)
		}
		for _, c := range chunks {
			for _, e := range c.Entries() {
				checkNext(t, e, next)
			}
		}
	}
}

// checkNext: entries of a device follow each other without a gap.
func checkNext(t *testing.T, e telemetry.Entry, next map[string]int64) {
	t.Helper()
	switch want := next[e.Device] + 1; {
	case e.Received == want:
		next[e.Device] = want
	case e.Received > want:
		t.Fatalf("%s: entry %d follows %d", e.Device, e.Received, want-1)
	}
}
