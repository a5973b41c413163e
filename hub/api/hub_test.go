package api_test

import (
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// reading are commands that have not been read from their store yet.
type reading struct {
	api.Commands
	done chan struct{}
}

func (r reading) Ready() <-chan struct{} { return r.done }

// Right after a start nobody is told that no command is pending: the status
// waits for the count, and says so where it takes too long.
func TestStatusDoesNotGuessPendingCommands(t *testing.T) {
	r := reading{done: make(chan struct{})}
	h := newHub(t, func(d *api.Deps) { r.Commands = d.Commands; d.Commands = r })
	h.device("a-0", "a")
	if _, _, err := h.commands.Send(testContext(t), commands.Request{Device: "a-0", Key: "k", Spec: commands.Spec{Name: "set-relay"}}); err != nil {
		t.Fatal(err)
	}
	status := func(token string) (pending uint32, known *operatorv1.GetStatusResponse_Check) {
		s := must(h.as(token, connect.WithGRPC()).hub.GetStatus(testContext(t), req(&operatorv1.GetStatusRequest{})))(t).Msg
		for _, c := range s.GetChecks() {
			if c.GetName() == "commands" {
				known = c
			}
		}
		return s.GetCommandsPending(), known
	}
	bound := h.token("ann", registry.RoleViewer, "site=a")
	if _, known := status(bound); known == nil || known.GetOk() || known.GetDetail() == "" {
		t.Errorf("before they are read: %v", known)
	}
	close(r.done)
	for _, token := range []string{h.admin, bound} {
		if pending, known := status(token); pending != 1 || !known.GetOk() {
			t.Errorf("afterwards: %d, %v", pending, known)
		}
	}
}
