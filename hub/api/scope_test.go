package api_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// An operator bound to site=a: what is at site=b does not exist, and the
// answers are those for what never existed.
func TestBoundOperatorSeesOnlyItsDevices(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for i := range 4 {
		h.device(fmt.Sprint("a-", i), "a")
		h.device(fmt.Sprint("b-", i), "b")
	}
	h.stored("a-0", 3)
	h.stored("b-0", 3)
	h.connectDevice("b-0")
	h.connectDevice("a-1")
	c := h.as(h.token("ann", registry.RoleAdmin, "site=a"))

	list := must(c.devices.ListDevices(ctx, req(&operatorv1.ListDevicesRequest{PageSize: 3})))(t).Msg
	if list.GetTotal() != 4 || len(list.GetDevices()) != 3 {
		t.Errorf("list: %d of %d", len(list.GetDevices()), list.GetTotal())
	}
	for _, selector := range []string{"site=b", "site!=a", "!site"} {
		got := must(c.devices.ListDevices(ctx, req(&operatorv1.ListDevicesRequest{Selector: selector})))(t).Msg
		if got.GetTotal() != 0 || len(got.GetDevices()) != 0 {
			t.Errorf("selector %s: %v", selector, got)
		}
	}
	status := must(c.hub.GetStatus(ctx, req(&operatorv1.GetStatusRequest{})))(t).Msg
	if status.GetDevices() != 4 || status.GetDevicesOnline() != 1 {
		t.Errorf("status counts %d devices, %d online", status.GetDevices(), status.GetDevicesOnline())
	}
	h.quarantined("b-0", 2)
	h.quarantined("a-2", 1)
	for _, id := range []string{"a-0", "b-0", "b-1"} {
		must(h.as(h.admin).commands.SendCommand(ctx, req(&operatorv1.SendCommandRequest{DeviceId: id, Spec: &operatorv1.CommandSpec{Name: "go"}})))(t)
	}
	status = must(c.hub.GetStatus(ctx, req(&operatorv1.GetStatusRequest{})))(t).Msg
	if status.GetSelector() != "site=a" || status.GetRowsQuarantined() != 1 || status.GetCommandsPending() != 1 || status.GetConnections() != 1 ||
		status.GetRowsAcknowledged()+status.GetRowsStored()+status.GetConnectionsPeak() != 0 || status.GetBuffer() != nil {
		t.Errorf("a bound operator's status: %v", status)
	}
	for _, check := range status.GetChecks() {
		if check.GetName() == "quarantine" && (check.GetOk() || !strings.HasPrefix(check.GetDetail(), "1 rows")) {
			t.Errorf("a bound operator's check: %v", check)
		}
	}
	whole := must(h.as(h.admin).hub.GetStatus(ctx, req(&operatorv1.GetStatusRequest{})))(t).Msg
	if whole.GetSelector() != "" || whole.GetRowsAcknowledged() != 77 || whole.GetCommandsPending() != 3 || whole.GetBuffer() == nil {
		t.Errorf("an unbound operator's status: %v", whole)
	}
	// Another operator's token of the same list is refused, not obeyed.
	all := must(h.as(h.admin).devices.ListDevices(ctx, req(&operatorv1.ListDevicesRequest{PageSize: 6})))(t).Msg
	_, err := c.devices.ListDevices(ctx, req(&operatorv1.ListDevicesRequest{PageToken: all.GetNextPageToken()}))
	wantCode(t, "an admin's page token", err, connect.CodeInvalidArgument)

	calls := map[string]func(id string) error{
		"Get": func(id string) error {
			return fail(c.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: id})))
		},
		"Label": func(id string) error {
			return fail(c.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{Id: id, Set: map[string]string{"site": "a"}})))
		},
		"Enable": func(id string) error {
			return fail(c.devices.SetDeviceEnabled(ctx, req(&operatorv1.SetDeviceEnabledRequest{Id: id})))
		},
		"Rotate": func(id string) error {
			return fail(c.devices.RotateDevice(ctx, req(&operatorv1.RotateDeviceRequest{Id: id})))
		},
		"Delete": func(id string) error {
			return fail(c.devices.DeleteDevice(ctx, req(&operatorv1.DeleteDeviceRequest{Id: id})))
		},
		"Latest": func(id string) error {
			return fail(c.telemetry.Latest(ctx, req(&operatorv1.LatestRequest{DeviceId: id})))
		},
		"Query": func(id string) error {
			return fail(c.telemetry.Query(ctx, req(&operatorv1.QueryRequest{DeviceId: id})))
		},
		"Fields": func(id string) error {
			return fail(c.telemetry.ListFields(ctx, req(&operatorv1.ListFieldsRequest{DeviceId: id})))
		},
		"Count": func(id string) error {
			return fail(c.telemetry.Count(ctx, req(&operatorv1.CountRequest{DeviceId: id})))
		},
		"Presence": func(id string) error {
			stream := must(c.devices.WatchPresence(ctx, req(&operatorv1.WatchPresenceRequest{DeviceIds: []string{id}})))(t)
			defer stream.Close()
			stream.Receive()
			return stream.Err()
		},
		"Rows": func(id string) error {
			stream := must(c.telemetry.WatchRows(ctx, req(&operatorv1.WatchRowsRequest{DeviceIds: []string{id}})))(t)
			defer stream.Close()
			stream.Receive()
			return stream.Err()
		},
	}
	for name, call := range calls {
		hidden, absent := call("b-0"), call("z-0")
		wantCode(t, name, hidden, connect.CodeNotFound)
		if hidden != nil && absent != nil && hidden.Error() != strings.ReplaceAll(absent.Error(), "z-0", "b-0") {
			t.Errorf("%s tells a hidden device from none: %q and %q", name, hidden, absent)
		}
	}
	if d, _ := h.registry.Get("b-0"); d.Disabled || d.Generation != 1 || d.Labels["site"] != "b" {
		t.Errorf("a hidden device was changed: %+v", d)
	}
	if err := calls["Latest"]("a-0"); err != nil {
		t.Errorf("its own device: %v", err)
	}
}

func fail[T any](_ *connect.Response[T], err error) error { return err }

// A bound operator can neither make a device outside its selector, nor move
// one out of it.
func TestBoundOperatorStaysInItsSelector(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	h.device("a-0", "a")
	c := h.as(h.token("ann", registry.RoleOperator, "site=a"))
	err := fail(c.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "x"}})))
	wantCode(t, "a device without the label", err, connect.CodePermissionDenied)
	res := must(c.devices.CreateDevices(ctx, req(&operatorv1.CreateDevicesRequest{Devices: []*operatorv1.NewDevice{
		{Id: "in", Labels: map[string]string{"site": "a"}}, {Id: "out", Labels: map[string]string{"site": "b"}},
	}})))(t).Msg.GetOutcomes()
	if res[0].GetError() != "" || !strings.Contains(res[1].GetError(), "selector") || res[1].GetCredential() != "" {
		t.Errorf("outcomes %v", res)
	}
	for name, m := range map[string]*operatorv1.LabelDeviceRequest{
		"moved":   {Id: "a-0", Set: map[string]string{"site": "b"}},
		"removed": {Id: "a-0", Remove: []string{"site"}},
	} {
		wantCode(t, name, fail(c.devices.LabelDevice(ctx, req(m))), connect.CodePermissionDenied)
	}
	if d, _ := h.registry.Get("a-0"); d.Labels["site"] != "a" {
		t.Error("the device was moved")
	}
	must(c.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{Id: "a-0", Set: map[string]string{"row": "1"}})))(t)
}

func TestQuarantineOfABoundOperator(t *testing.T) {
	h := newHub(t)
	ctx := testContext(t)
	for _, id := range []string{"a-0", "b-0", "a-1"} {
		h.device(id, id[:1])
		h.quarantined(id, 3)
	}
	everything := must(h.as(h.admin).quarantine.ListQuarantine(ctx, req(&operatorv1.ListQuarantineRequest{})))(t).Msg
	if everything.GetTotal() != 9 || len(everything.GetRows()) != 9 {
		t.Fatalf("admin sees %d of %d", len(everything.GetRows()), everything.GetTotal())
	}
	var hidden []uint64
	for _, row := range everything.GetRows() {
		if row.GetDeviceId() == "b-0" {
			hidden = append(hidden, row.GetId())
		}
	}
	c := h.as(h.token("ann", registry.RoleAdmin, "site=a")).quarantine
	var seen []uint64
	m := &operatorv1.ListQuarantineRequest{PageSize: 4}
	for {
		res := must(c.ListQuarantine(ctx, req(m)))(t).Msg
		if res.GetTotal() != 6 {
			t.Errorf("total %d, want 6", res.GetTotal())
		}
		for _, row := range res.GetRows() {
			if row.GetDeviceId()[0] != 'a' || row.GetReason() != "the store's words" || len(row.GetValues()) != 2 {
				t.Errorf("row %v", row)
			}
			seen = append(seen, row.GetId())
		}
		if m.PageToken = res.GetNextPageToken(); m.PageToken == "" {
			break
		}
	}
	if len(seen) != 6 || !slices.IsSorted(seen) {
		t.Errorf("rows %v", seen)
	}
	wantCode(t, "a hidden device", fail(c.ListQuarantine(ctx, req(&operatorv1.ListQuarantineRequest{DeviceId: "b-0"}))), connect.CodeNotFound)
	wantCode(t, "undecodable", fail(c.ListQuarantine(ctx, req(&operatorv1.ListQuarantineRequest{DeviceId: jsbuffer.Undecodable}))), connect.CodeNotFound)
	got := fail(c.GetQuarantined(ctx, req(&operatorv1.GetQuarantinedRequest{Id: hidden[0]})))
	wantCode(t, "a hidden row", got, connect.CodeNotFound)
	if absent := fail(c.GetQuarantined(ctx, req(&operatorv1.GetQuarantinedRequest{Id: 99}))); got.Error() != strings.ReplaceAll(absent.Error(), "99", fmt.Sprint(hidden[0])) {
		t.Errorf("a hidden row can be told from none: %v and %v", got, absent)
	}
	wantCode(t, "drop of a hidden device", fail(c.DropQuarantine(ctx, req(&operatorv1.DropQuarantineRequest{DeviceId: "b-0"}))), connect.CodeNotFound)
	for name, m := range map[string]*operatorv1.DropQuarantineRequest{
		"nothing": {}, "two ways": {Ids: []uint64{1}, All: true}, "too many": {Ids: make([]uint64, 1001)},
	} {
		wantCode(t, name, fail(c.DropQuarantine(ctx, req(m))), connect.CodeInvalidArgument)
	}
	if n := must(c.DropQuarantine(ctx, req(&operatorv1.DropQuarantineRequest{Ids: append(hidden, seen[0])})))(t).Msg.GetDropped(); n != 1 {
		t.Errorf("dropped %d by ids, want the one of its own", n)
	}
	if n := must(c.ReplayQuarantine(ctx, req(&operatorv1.ReplayQuarantineRequest{DeviceId: "a-1"})))(t).Msg.GetReplayed(); n != 3 {
		t.Errorf("replayed %d", n)
	}
	if n := must(c.DropQuarantine(ctx, req(&operatorv1.DropQuarantineRequest{All: true})))(t).Msg.GetDropped(); n != 2 {
		t.Errorf("dropped %d of all, want 2", n)
	}
	if left := must(h.quarantine.Count(ctx))(t); left.Rows != 3 || left.ByDevice["b-0"] != 3 {
		t.Errorf("left: %+v; the rows of b-0 must be there", left)
	}
}

// An operator who is bound, whatever the role, manages nobody.
func TestBoundAdminMakesNoOperators(t *testing.T) {
	h := newHub(t)
	c := h.as(h.token("ann", registry.RoleAdmin, "site=a")).operators
	err := fail(c.CreateOperator(testContext(t), req(&operatorv1.CreateOperatorRequest{Name: "x", Role: operatorv1.Role_ROLE_VIEWER})))
	wantCode(t, "CreateOperator", err, connect.CodePermissionDenied)
	if _, ok := h.registry.Operator("x"); ok {
		t.Error("an operator was made")
	}
	var e *connect.Error
	if !errors.As(err, &e) || strings.Contains(e.Message(), "site") {
		t.Errorf("message %v", e)
	}
}
