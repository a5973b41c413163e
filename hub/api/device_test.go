package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func TestCreateRotateDisableDelete(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	made := must(c.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{
		Id: "pump-1", Labels: map[string]string{"site": "north"}, Note: "by the door",
	}})))(t).Msg
	credential := must(device.ParseCredential(made.GetCredential()))(t)
	secret, _ := h.keyring.Secret(h.keyring.ActiveID(), "pump-1", 1)
	if credential.ID != "pump-1" || credential.Generation != 1 || credential.Secret != secret {
		t.Errorf("credential %v does not hold the device's secret", credential)
	}
	if made.GetHubUrl() != "wss://hub.example/v1/device" || made.GetCaPem() != "CA" || !made.GetDevice().GetEnabled() ||
		made.GetDevice().GetKind() != "device" || made.GetDevice().GetNote() != "by the door" {
		t.Errorf("answer %v", made)
	}
	_, err := c.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "pump-1"}}))
	wantCode(t, "the same id again", err, connect.CodeAlreadyExists)

	away := must(c.devices.RotateDevice(ctx, req(&operatorv1.RotateDeviceRequest{Id: "pump-1"})))(t).Msg
	if away.GetHandedOver() || away.GetDevice().GetRetiringGeneration() != 1 || away.GetDevice().GetGeneration() != 2 {
		t.Errorf("rotation of a device that is away: %v", away.GetDevice())
	}
	if until := time.Until(away.GetDevice().GetRetiringUntil().AsTime()); until < 23*time.Hour || until > 25*time.Hour {
		t.Errorf("default grace is %v", until)
	}
	p := h.connectDevice("pump-1")
	here := must(c.devices.RotateDevice(ctx, req(&operatorv1.RotateDeviceRequest{Id: "pump-1", Grace: durationpb.New(time.Hour)})))(t).Msg
	credential = must(device.ParseCredential(here.GetCredential()))(t)
	if got := p.secrets(); !here.GetHandedOver() || len(got) != 1 || got[0] != credential.Secret || credential.Generation != 3 {
		t.Errorf("rotation of a connected device: handed over %v, %d secrets", here.GetHandedOver(), len(p.secrets()))
	}
	// Without grace the old secret is taken for stolen: nothing is sent under it.
	none := must(c.devices.RotateDevice(ctx, req(&operatorv1.RotateDeviceRequest{Id: "pump-1", Grace: durationpb.New(0)})))(t).Msg
	if none.GetHandedOver() || len(p.secrets()) != 1 || none.GetDevice().GetRetiringGeneration() != 0 {
		t.Errorf("rotation without grace: %v", none)
	}
	p = h.connectDevice("pump-1")
	off := must(c.devices.SetDeviceEnabled(ctx, req(&operatorv1.SetDeviceEnabledRequest{Id: "pump-1"})))(t).Msg
	if off.GetDevice().GetEnabled() {
		t.Error("still enabled")
	}
	eventually(t, "the session of a disabled device ends", p.ended)
	must(c.devices.DeleteDevice(ctx, req(&operatorv1.DeleteDeviceRequest{Id: "pump-1"})))(t)
	_, err = c.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "pump-1"}))
	wantCode(t, "Get after Delete", err, connect.CodeNotFound)
	again := must(c.devices.CreateDevice(ctx, req(&operatorv1.CreateDeviceRequest{Device: &operatorv1.NewDevice{Id: "pump-1"}})))(t).Msg
	if again.GetDevice().GetGeneration() != 5 {
		t.Errorf("made again with generation %d, want 5", again.GetDevice().GetGeneration())
	}
}

func TestCreateManyDevices(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("d-0500", "north")
	asked := make([]*operatorv1.NewDevice, 1000)
	for i := range asked {
		asked[i] = &operatorv1.NewDevice{Id: fmt.Sprintf("d-%04d", i), Labels: map[string]string{"site": "north"}}
	}
	asked[7].Id = "no id"
	asked[8].Labels = map[string]string{"no key": ""}
	start := time.Now()
	res := must(c.devices.CreateDevices(ctx, req(&operatorv1.CreateDevicesRequest{Devices: asked})))(t).Msg
	t.Logf("1,000 devices in %v", time.Since(start))
	for i, o := range res.GetOutcomes() {
		bad := i == 7 || i == 8 || i == 500
		if (o.GetError() != "") != bad || (o.GetCredential() == "") != bad || o.GetId() != asked[i].GetId() {
			t.Fatalf("outcome %d: %v", i, o)
		}
	}
	if len(res.GetOutcomes()) != 1000 || h.registry.Len() != 998 {
		t.Errorf("%d outcomes, %d devices", len(res.GetOutcomes()), h.registry.Len())
	}
	for name, many := range map[string][]*operatorv1.NewDevice{"none": nil, "1,001": append(asked, asked[0])} {
		_, err := c.devices.CreateDevices(ctx, req(&operatorv1.CreateDevicesRequest{Devices: many}))
		wantCode(t, name, err, connect.CodeInvalidArgument)
	}
}

func TestLabelDevice(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("d", "north")
	got := must(c.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{
		Id: "d", Set: map[string]string{"row": "7"}, Remove: []string{"site", "absent"},
	})))(t).Msg.GetDevice().GetLabels()
	if len(got) != 1 || got["row"] != "7" {
		t.Errorf("labels %v", got)
	}
	many := make(map[string]string)
	for i := range 33 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for name, m := range map[string]*operatorv1.LabelDeviceRequest{
		"bad key":         {Id: "d", Set: map[string]string{"1x": ""}},
		"long value":      {Id: "d", Set: map[string]string{"x": strings.Repeat("v", 129)}},
		"too many":        {Id: "d", Set: many},
		"set and removed": {Id: "d", Set: map[string]string{"x": ""}, Remove: []string{"x"}},
		"bad removed":     {Id: "d", Remove: []string{""}},
		"bad id":          {Id: "d/e"},
	} {
		_, err := c.devices.LabelDevice(ctx, req(m))
		wantCode(t, name, err, connect.CodeInvalidArgument)
	}
	_, err := c.devices.LabelDevice(ctx, req(&operatorv1.LabelDeviceRequest{Id: "other"}))
	wantCode(t, "unknown device", err, connect.CodeNotFound)
}

func TestListDevicesPages(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	for i := range 25 {
		h.device(fmt.Sprintf("d-%02d", i), map[bool]string{true: "north", false: "south"}[i < 15])
	}
	h.connectDevice("d-03")
	list := func(m *operatorv1.ListDevicesRequest) *operatorv1.ListDevicesResponse {
		t.Helper()
		return must(c.devices.ListDevices(ctx, req(m)))(t).Msg
	}
	var ids []string
	m := &operatorv1.ListDevicesRequest{Selector: "site=north", PageSize: 7}
	for pages := 1; ; pages++ {
		res := list(m)
		if res.GetTotal() != 15 {
			t.Errorf("total %d", res.GetTotal())
		}
		for _, d := range res.GetDevices() {
			ids = append(ids, d.GetId())
		}
		if m.PageToken = res.GetNextPageToken(); m.PageToken == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(ids) != 15 || ids[0] != "d-00" || ids[14] != "d-14" {
		t.Errorf("ids %v", ids)
	}
	// A page that is exactly full is the last one.
	if res := list(&operatorv1.ListDevicesRequest{PageSize: 25}); len(res.GetDevices()) != 25 || res.GetNextPageToken() != "" {
		t.Errorf("full page: %d devices, token %q", len(res.GetDevices()), res.GetNextPageToken())
	}
	if res := list(&operatorv1.ListDevicesRequest{Online: proto.Bool(true)}); res.GetTotal() != 1 || res.GetDevices()[0].GetId() != "d-03" ||
		!res.GetDevices()[0].GetPresence().GetOnline() || res.GetDevices()[0].GetPresence().GetFirmware() != "fw 1" {
		t.Errorf("online: %v", res)
	}
	if res := list(&operatorv1.ListDevicesRequest{Online: proto.Bool(false), IdPrefix: "d-0"}); res.GetTotal() != 9 {
		t.Errorf("offline with prefix: %d", res.GetTotal())
	}
	token := list(&operatorv1.ListDevicesRequest{Selector: "site=north", PageSize: 7}).GetNextPageToken()
	for name, bad := range map[string]*operatorv1.ListDevicesRequest{
		"page size":       {PageSize: 1001},
		"token garbage":   {PageToken: "x"},
		"token of others": {PageToken: token},
		"token long":      {PageToken: strings.Repeat("A", 5000)},
		"selector":        {Selector: "a=b=c"},
	} {
		_, err := c.devices.ListDevices(ctx, req(bad))
		wantCode(t, name, err, connect.CodeInvalidArgument)
	}
}

func TestDescriptionAndUnits(t *testing.T) {
	h := newHub(t)
	c, ctx := h.as(h.admin), testContext(t)
	h.device("d", "north")
	described := must(proto.Marshal(&devicev1.Describe{
		Firmware: "fw 2", Fields: []*devicev1.FieldDescription{{Name: "temp", Unit: "Cel", Kind: devicev1.Kind_KIND_DOUBLE}},
		Commands: []*devicev1.CommandDescription{{Name: "reboot", Arguments: []*devicev1.ArgumentDescription{{Name: "in", Kind: devicev1.Kind_KIND_INT, Unit: "s"}}}},
	}))(t)
	must(h.registry.Update(ctx, "d", func(d *registry.Device) error { d.Describe = described; return nil }))(t)
	d := must(c.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "d"})))(t).Msg.GetDevice()
	if d.GetDescription().GetFields()[0].GetUnit() != "Cel" || d.GetDescription().GetCommands()[0].GetArguments()[0].GetKind() != operatorv1.FieldKind_FIELD_KIND_INT {
		t.Errorf("description %v", d.GetDescription())
	}
	h.stored("d", 5)
	latest := must(c.telemetry.Latest(ctx, req(&operatorv1.LatestRequest{DeviceId: "d"})))(t).Msg.GetItems()
	if len(latest) != 2 || latest[1].GetField() != "temp" || latest[1].GetUnit() != "Cel" || latest[1].GetValue().GetDoubleValue() != 4 ||
		latest[0].GetValue().GetStringValue() != "s4" {
		t.Errorf("latest %v", latest)
	}
	fields := must(c.telemetry.ListFields(ctx, req(&operatorv1.ListFieldsRequest{DeviceId: "d"})))(t).Msg.GetFields()
	if len(fields) != 2 || fields[1].GetUnit() != "Cel" || fields[1].GetKind() != operatorv1.FieldKind_FIELD_KIND_DOUBLE {
		t.Errorf("fields %v", fields)
	}
}
