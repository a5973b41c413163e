//go:build linux

package hub_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// wantStoredHere compares the hub's store with what the devices have published.
func (p *power) wantStoredHere(t *testing.T) {
	t.Helper()
	untilStored(t, p.h.Endpoint, func() bool {
		return !slices.ContainsFunc(p.flock.gauges, func(g *gauge) bool {
			return p.h.Count(t, g.id) < uint64(len(g.published()))
		})
	})
	for _, g := range p.flock.gauges {
		wantRows(t, g.id, p.storedHere(t, g), g.published())
	}
}

// storedHere reads a device's rows from the hub.
func (p *power) storedHere(t *testing.T, g *gauge) map[int64]int64 {
	t.Helper()
	got := map[int64]int64{}
	for token := ""; ; {
		answer, err := p.h.Telemetry.Query(t.Context(), connect.NewRequest(&operatorv1.QueryRequest{
			DeviceId: g.id, Fields: []string{numbered}, PageSize: 10_000, PageToken: token,
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range answer.Msg.Rows {
			got[row.Time.AsTime().UnixNano()] = row.Values[numbered].GetIntValue()
		}
		if token = answer.Msg.NextPageToken; token == "" {
			break
		}
	}
	return got
}

// wantAllConfirmed: what operators were told is so.
func (p *power) wantAllConfirmed(t *testing.T) {
	t.Helper()
	wantNoQuarantine(t, p.h.Endpoint)
	p.wantCommands(t)
	p.wantDevices(t)
	audit := map[string]bool{}
	for token := ""; ; {
		answer, err := p.h.Operators.ListAudit(t.Context(), connect.NewRequest(&operatorv1.ListAuditRequest{PageSize: 1000, PageToken: token}))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Msg.Records {
			audit[r.Method+" "+r.Subject] = true
		}
		if token = answer.Msg.NextPageToken; token == "" {
			break
		}
	}
	for _, change := range p.audited {
		if !audit[change] {
			t.Errorf("the audit log has forgotten %s", change)
		}
	}
}

func (p *power) wantCommands(t *testing.T) {
	t.Helper()
	hubtest.Eventually(t, "no command is pending", func() bool { return status(t, p.h.Endpoint).CommandsPending == 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range p.accepted {
		c := command(t, p.h.Endpoint, id).Command
		told, known := p.ends[id]
		switch {
		case !ended(c.State):
			t.Errorf("command %s is %v", id, c.State)
		case known && told != c.State && !decidedByHub(told):
			t.Errorf("command %s was %v and is %v", id, told, c.State)
		case c.State == operatorv1.CommandState_COMMAND_STATE_SUCCEEDED && p.runs[id] != 1:
			t.Errorf("command %s has succeeded and ran %d times", id, p.runs[id])
		}
	}
	for id, n := range p.runs {
		if n > 1 {
			t.Errorf("command %s ran %d times", id, n)
		}
	}
}

// wantDevices: who was enrolled may connect, and who was disabled or deleted
// may not. A few of them try it.
func (p *power) wantDevices(t *testing.T) {
	t.Helper()
	tried := map[string]int{}
	for id, credential := range p.enrolled {
		answer, err := p.h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: id}))
		kind, want := "enrolled", error(nil)
		switch {
		case p.deleted[id]:
			kind, want = "deleted", client.ErrUnauthorized
			if connect.CodeOf(err) != connect.CodeNotFound {
				t.Errorf("%s was deleted and is there: %v", id, err)
			}
		case err != nil:
			t.Errorf("%s is gone: %v", id, err)
			continue
		case p.disabled[id]:
			kind, want = "disabled", client.ErrDisabled
			if answer.Msg.Device.Enabled {
				t.Errorf("%s was disabled and is not", id)
			}
		}
		if tried[kind]++; tried[kind] > 3 {
			continue
		}
		if want == nil {
			c, stop := hubtest.Run(t, p.h.Client(credential))
			hubtest.Eventually(t, id+" is let in", func() bool { return c.State() == client.Online })
			_ = stop()
			continue
		}
		c, err := client.New(p.h.Client(credential))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s is %s and ends with %v; want %v", id, kind, err, want)
		}
	}
	if tried["enrolled"] == 0 || len(p.accepted) == 0 {
		t.Errorf("%d devices were enrolled, %d commands accepted: nothing was tried", tried["enrolled"], len(p.accepted))
	}
}

func (p *power) report(t *testing.T, rows int) {
	t.Helper()
	l := p.losses
	t.Logf("%d rows acknowledged, %d commands accepted, %d changes of devices confirmed over %d cuts in %.0f s; the disk synced %d times; of %d bytes in %d files and %d names that were not, it kept %d and %d; %d files of streams lost their name; everything that was told is there",
		rows, len(p.accepted), len(p.audited), p.cuts, time.Since(p.began).Seconds(), p.disk.Syncs(), l.Bytes, l.Files, l.Names, l.KeptBytes, l.KeptNames, l.GoneBlocks)
}
