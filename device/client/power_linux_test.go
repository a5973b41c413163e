package client

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/powertest"
)

// A spool that syncs every frame loses none when the power goes: not those in
// a segment that was begun just before, and not the spool itself. What it had
// let go of may come back, which is a resend.
func TestFileSpoolSurvivesPowerLoss(t *testing.T) {
	cuts := 6
	if os.Getenv("TETHERLINE_TEST_LONG") != "" {
		cuts = 60
	}
	for n := range cuts {
		seed := rand.Uint64N(1 << 32)
		disk := powertest.New(t, powertest.Options{Seed: seed, Forgetful: n%2 == 0})
		pos, size, trimmed := cutSpool(t, disk, 20+rand.IntN(1500), false)
		s, err := OpenFileSpool(spoolOn(disk), FileSpoolOptions{MaxBytes: 8 << 20})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s.Damaged() != 0 || s.Dropped() != 0 {
			t.Errorf("seed %d: %d bytes damaged, %d rows dropped", seed, s.Damaged(), s.Dropped())
		}
		if body, err := s.Body(pos); err != nil || len(body) != size {
			t.Errorf("seed %d: the last frame that was told of, %d: %v, %d bytes instead of %d", seed, pos, err, len(body), size)
		}
		expect := trimmed + 1
		for info, ok := s.Next(expect); ok && info.Pos <= pos; info, ok = s.Next(info.Pos + 1) {
			if info.Pos != expect {
				t.Errorf("seed %d: frame %d is missing", seed, expect)
			}
			expect = info.Pos + 1
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The test above sees what a disk loses that only pretends to sync.
func TestFileSpoolOnALyingDiskIsSeen(t *testing.T) {
	disk := powertest.New(t, powertest.Options{Forgetful: true})
	pos, _, _ := cutSpool(t, disk, 200, true)
	s, err := OpenFileSpool(spoolOn(disk), FileSpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Body(pos); err == nil {
		t.Error("a frame survives that was never synced")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A device tells no end that a loss of power could take back: what the hub may
// have heard it says again afterwards, with its result, and not that the
// command was interrupted.
func TestAnEndThatWasToldSurvivesPowerLoss(t *testing.T) {
	disk := powertest.New(t, powertest.Options{Forgetful: true})
	hub, cfg, relay := commandPeer(t, Handler{})
	cfg.JournalPath = filepath.Join(disk.Dir(), "commands")
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.command("c1", "relay", `{"on":true}`)
	conn.wantUpdate("c1", phaseDelivered, 0)
	relay.wantRun(t, "c1")
	relay.proceed <- struct{}{}
	told := conn.wantUpdate("c1", phaseSucceeded, 0)
	// The hub goes without having recorded it, and the power goes: nothing that
	// the process does from here on reaches the medium.
	disk.Lie(true)
	conn.ws.Close()
	_ = c.stop(t)
	disk.Cut(t)
	disk.Lie(false)

	start(t, cfg)
	conn = hub.accept(t).welcome()
	if again := conn.update(); !proto.Equal(again, told) {
		t.Errorf("after the loss of power the device says %v; before it said %v", again, told)
	}
	if len(relay.runs) != 0 {
		t.Error("the command runs again")
	}
}

func spoolOn(d *powertest.Disk) string { return filepath.Join(d.Dir(), "spool") }

// cutSpool has a process fill a spool until it has told of so many frames,
// and cuts the power. It returns the last frame that was told of, and up to
// which frame it was trimmed.
func cutSpool(t *testing.T, disk *powertest.Disk, frames int, lying bool) (pos uint64, size int, trimmed uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childSpoolEnv+"="+spoolOn(disk), childSyncedEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := "", bufio.NewScanner(out)
	note := func(line string) {
		if _, err := fmt.Sscanf(line, "trim %d", &trimmed); err != nil {
			last = line
		}
	}
	for n := 0; n < frames && lines.Scan(); n++ {
		note(lines.Text())
		if lying && n == frames/2 {
			disk.Lie(true)
		}
	}
	_ = cmd.Process.Kill()
	for lines.Scan() {
		note(lines.Text())
	}
	_ = cmd.Wait()
	disk.Cut(t)
	disk.Lie(false)
	if _, err := fmt.Sscan(last, &pos, &size); err != nil {
		t.Fatalf("the process said %q", last)
	}
	return pos, size, trimmed
}
