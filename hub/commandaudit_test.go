package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A command that an operator was told is accepted has its record in the audit
// log, and its end, wherever the hub was killed.
func TestCommandsAreAuditedThroughKills(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.Listen = hubtest.FreeAddr(t)
	h := hubtest.StartProcess(t, cfg)
	const devices, kills = 8, 3
	for i := range devices {
		obeying(t, h.Endpoint, h.CreateDevice(t, fmt.Sprint("d", i)), "set-relay", client.Handler{
			Run: func(context.Context, *client.Command) (client.Result, error) { return client.Result{}, nil },
		})
	}
	accepted := map[string]bool{}
	for round := range kills {
		var mu sync.Mutex
		var all sync.WaitGroup
		enough := make(chan struct{})
		killed := make(chan struct{})
		answered := 0
		for i := range devices {
			all.Go(func() {
				for n := 0; ; n++ {
					answer, err := h.Commands.SendCommand(t.Context(), connect.NewRequest(&operatorv1.SendCommandRequest{
						DeviceId: fmt.Sprint("d", i), Key: fmt.Sprintf("k-%d-%d-%d", round, i, n),
						Spec: &operatorv1.CommandSpec{Name: "set-relay"},
					}))
					if err != nil {
						select {
						case <-killed:
							return
						case <-t.Context().Done():
							return
						case <-time.After(time.Millisecond):
							continue // as many as the device may have waiting, or a machine that is very busy
						}
					}
					mu.Lock()
					accepted[answer.Msg.Command.Id] = true
					if answered++; answered == 100*(round+1) {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		select {
		case <-enough:
		case <-t.Context().Done():
		}
		h.Kill()
		close(killed)
		all.Wait()
		h.Start()
	}
	for id := range accepted {
		hubtest.Eventually(t, "command "+id+" has ended", func() bool { return ended(command(t, h.Endpoint, id).Command.State) })
	}
	var audited map[string]int
	defer func() {
		for id := range accepted {
			if t.Failed() && audited[id] == 0 {
				t.Logf("of command %s there is no record: %v", id, command(t, h.Endpoint, id).Command)
			}
		}
	}()
	hubtest.Eventually(t, "all are in the audit log", func() bool {
		audited = auditedCommands(t, h.Endpoint)
		for id := range accepted {
			if audited[id] == 0 {
				return false
			}
		}
		return true
	})
	for id := range accepted {
		if audited[id] != 1 {
			t.Errorf("command %s was accepted and has %d records in the audit log", id, audited[id])
		}
	}
	t.Logf("%d commands were accepted, %d are in the audit log", len(accepted), len(audited))
}

// auditedCommands counts the granted records of each command.
func auditedCommands(t *testing.T, h hubtest.Endpoint) map[string]int {
	t.Helper()
	audited := map[string]int{}
	for token := ""; ; {
		answer, err := h.Operators.ListAudit(t.Context(), connect.NewRequest(&operatorv1.ListAuditRequest{PageSize: 500, PageToken: token}))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Msg.Records {
			if _, rest, ok := strings.Cut(r.Detail, "id="); ok && r.Outcome == "ok" {
				id, _, _ := strings.Cut(rest, " ")
				audited[id]++
			}
		}
		if token = answer.Msg.NextPageToken; token == "" {
			break
		}
	}
	return audited
}
