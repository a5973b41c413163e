package commands_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tetherline/tetherline/commands"
)

// operators are those who may go on, and the devices they reach.
type operators struct {
	mu    sync.Mutex
	gone  bool
	reach func(device string) bool
}

func (o *operators) set(change func(*operators)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *operators) CheckOperator(name, id, device string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.gone || id != "ann-1":
		return fmt.Errorf("%s %w", name, commands.ErrNoOperator)
	case !o.reach(device):
		return commands.ErrOutOfReach
	}
	return nil
}

func (o *operators) RefreshOperators(context.Context) error { return nil }

// Each command of a group is issued on the present rights of who has sent it.
func TestAGroupIsIssuedOnPresentRights(t *testing.T) {
	t.Parallel()
	all := func(string) bool { return true }
	for _, c := range []struct {
		name    string
		change  func(*operators)
		ok      func(commands.Group) bool
		refusal string
	}{
		{"removed", func(o *operators) { o.gone = true }, func(g commands.Group) bool {
			return groupEnded(g) && g.State == commands.GroupStopped && g.Issued < 40 && g.Refused == 0 && strings.HasPrefix(g.Reason, "stopped: ann, who sent it, is not an operator")
		}, ""},
		{"narrowed", func(o *operators) { o.reach = func(d string) bool { return d == "dev-00039" } }, func(g commands.Group) bool {
			return groupEnded(g) && g.State == commands.GroupDone && g.Refused > 0 && g.Refused+g.Issued == 40
		}, "is out of the operator's reach"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rights := &operators{reach: all}
			var members []string
			for i := range 40 {
				members = append(members, fmt.Sprintf("dev-%05d", i))
			}
			h := startHub(t, "a", newStore(t, startNATS(t)), withDevices(&devices{selected: members}), func(cfg *commands.Config) { cfg.Operators = rights })
			for _, id := range members {
				h.connect(newDevice(id))
			}
			g, _, err := h.d.SendGroup(context.Background(), commands.GroupRequest{
				Selector: "a=b", Spec: commands.Spec{Name: "x"}, Operator: "ann", OperatorID: "ann-1", Rate: 10,
			})
			if err != nil {
				t.Fatal(err)
			}
			h.wantGroup(g.ID, func(g commands.Group) bool { return g.Issued > 0 })
			rights.set(c.change)
			g = h.wantGroup(g.ID, c.ok)
			if c.refusal != "" && g.Refusals[0].Reason != c.refusal {
				t.Errorf("%+v", g.Refusals)
			}
			if g.ByState[commands.Succeeded] != g.Issued {
				t.Errorf("%d issued, %v", g.Issued, g.ByState)
			}
		})
	}
}
