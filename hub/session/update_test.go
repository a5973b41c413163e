package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// ledger records what a session tells of commands.
type ledger struct {
	mu    sync.Mutex
	lines []string
	fail  error
	stall bool // Update waits for the end of its context
}

func (l *ledger) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *ledger) Connected(device string, epoch uint64)    { l.note("+%s %d", device, epoch) }
func (l *ledger) Disconnected(device string, epoch uint64) { l.note("-%s %d", device, epoch) }

func (l *ledger) Update(ctx context.Context, device string, epoch uint64, u *devicev1.CommandUpdate) (bool, error) {
	l.note("%s %d %s %d", device, epoch, u.GetId(), u.GetPhase())
	if l.stall {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return u.GetPhase() >= devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, l.fail
}

func (c *client) command(u *devicev1.CommandUpdate) {
	c.t.Helper()
	c.send(&devicev1.DeviceFrame{Frame: &devicev1.DeviceFrame_CommandUpdate{CommandUpdate: u}})
}

func TestRecordedEndIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(t, Limits{}), new(ledger)
		w.deps.Commands = l
		c := w.connect(newPipe(), 0)
		c.command(&devicev1.CommandUpdate{Id: "c1", Phase: 1})
		synctest.Wait()
		c.silent() // not an end
		c.command(&devicev1.CommandUpdate{Id: "c1", Phase: 3})
		if got := c.next().GetCommandAck().GetId(); got != "c1" {
			t.Fatalf("CommandAck of %q", got)
		}
		l.fail = errors.New("the disk is gone")
		c.command(&devicev1.CommandUpdate{Id: "c2", Phase: 4})
		synctest.Wait()
		c.silent() // not recorded: the device has to say it again
		c.command(&devicev1.CommandUpdate{Id: "c3", Phase: 99})
		synctest.Wait()
		c.silent() // of a newer protocol
		c.leave()
		want := "+dev-1 1|dev-1 1 c1 1|dev-1 1 c1 3|dev-1 1 c2 4|-dev-1 1"
		if got := strings.Join(l.lines, "|"); got != want {
			t.Errorf("told\n%s, want\n%s", got, want)
		}
	})
}

func TestBadUpdatesAreForbidden(t *testing.T) {
	for name, u := range map[string]*devicev1.CommandUpdate{
		"no id":          {Phase: 1},
		"long id":        {Id: strings.Repeat("x", 65), Phase: 1},
		"id with a line": {Id: "a\nb", Phase: 1},
		"no phase":       {Id: "c"},
		"progress":       {Id: "c", Phase: 2, ProgressPercent: 101},
		"code":           {Id: "c", Phase: 4, Code: 17},
		"long message":   {Id: "c", Phase: 4, Message: strings.Repeat("x", 1025)},
		"long result":    {Id: "c", Phase: 3, Result: &devicev1.CommandUpdate_Json{Json: strings.Repeat("x", 16<<10+1)}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(t, Limits{}), new(ledger)
			w.deps.Commands = l
			c := w.connect(newPipe(), 0)
			c.command(u)
			t.Log(name)
			c.wantEnd(CloseForbidden)
			if len(l.lines) != 2 {
				t.Errorf("recorded: %v", l.lines)
			}
		})
	}
}

// A store that does not answer does not hold up a revocation.
func TestRevocationCutsACallShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(t, Limits{}), &ledger{stall: true}
		w.deps.Commands = l
		c := w.connect(newPipe(), 0)
		c.command(&devicev1.CommandUpdate{Id: "c", Phase: 1})
		synctest.Wait()
		begin := time.Now()
		c.session.Stop(CloseDisabled, "")
		c.wantEnd(CloseDisabled)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("after %v", took)
		}
	})
}
