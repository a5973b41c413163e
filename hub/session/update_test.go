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

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// ledger records what a session tells of commands.
type ledger struct {
	mu    sync.Mutex
	lines []string
	fail  error
	stall bool // Update waits for the end of its context
	last  *devicev1.CommandUpdate
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
	l.mu.Lock()
	l.last = u
	l.mu.Unlock()
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

// A device repeats an end until it is acknowledged: one that breaks a bound is
// taken, for Commands to cut, and ends no session.
func TestEndsOutOfBoundsAreTaken(t *testing.T) {
	long := strings.Repeat("x", 16<<10+1)
	for name, u := range map[string]*devicev1.CommandUpdate{
		"code":         {Id: "c", Phase: 4, Code: 17},
		"progress":     {Id: "c", Phase: 3, ProgressPercent: 101},
		"long message": {Id: "c", Phase: 4, Message: long},
		"long json":    {Id: "c", Phase: 3, Result: &devicev1.CommandUpdate_Json{Json: long}},
		"long bytes":   {Id: "c", Phase: 3, Result: &devicev1.CommandUpdate_Protobuf{Protobuf: []byte(long)}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, l := newWorld(t, Limits{}), new(ledger)
			w.deps.Commands = l
			c := w.connect(newPipe(), 0)
			c.command(u)
			if got := c.next().GetCommandAck().GetId(); got != "c" {
				t.Errorf("%s: CommandAck of %q", name, got)
			}
			c.leave()
			if !proto.Equal(l.last, u) {
				t.Errorf("%s: told %v", name, l.last)
			}
		})
	}
}

// Text that was cut within a character is mended, not refused.
func TestUpdatesWithBrokenTextAreMended(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"message":     {"\x0a\x01c\x10\x04\x20\x09\x2a\x03ab\xc3", "id:\"c\" phase:COMMAND_PHASE_FAILED code:9 message:\"ab\uFFFD\""},
		"json":        {"\x0a\x01c\x10\x03\x32\x02a\xff", "id:\"c\" phase:COMMAND_PHASE_SUCCEEDED protobuf:\"a\\xff\""},
		"both":        {"\x0a\x01c\x10\x03\x2a\x01\xff\x32\x01\xff", "id:\"c\" phase:COMMAND_PHASE_SUCCEEDED message:\"\uFFFD\" protobuf:\"\\xff\""},
		"an id":       {"\x0a\x01\xff\x10\x03", ""},
		"no message":  {"\x0a\x01c\x10\x04\x2a\x09ab", ""},
		"a wrong tag": {"\x0a\x01c\x10\x04\x2a\x01\xff\x00", ""},
	} {
		u, err := parseUpdate([]byte(test.body))
		if test.want == "" {
			if err == nil {
				t.Errorf("%s: taken as %v", name, u)
			}
			continue
		}
		want := new(devicev1.CommandUpdate)
		if err := prototext.Unmarshal([]byte(test.want), want); err != nil {
			t.Fatal(err)
		}
		if err != nil || !proto.Equal(u, want) {
			t.Errorf("%s: %v, %v; want %v", name, u, err, want)
		}
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
