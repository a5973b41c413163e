package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/hub/api"
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// gearIn makes gear of a registry, as the bridge does, without a broker.
type gearIn struct {
	h       *hub
	heard   []registry.Gear
	samples chan mqttbridge.SampleRequest
}

func (b *gearIn) Brokers() []mqttbridge.BrokerStatus {
	return []mqttbridge.BrokerStatus{{
		Name: "barn", URL: "tcp://127.0.0.1:1883", Connected: true, Since: time.Unix(1000, 0), Messages: 7, Rows: 6, UnknownGear: 1,
		Profiles: []mqttbridge.ProfileStatus{{Name: "plugs", Kind: "tasmota", GearAllowed: 2, GearUnknown: 1, Messages: 7}},
		Problems: []mqttbridge.Problem{{Time: time.Unix(2000, 0), Reason: "not JSON", Count: 3, Topic: "tele/x/STATE", Gear: "x", Profile: "plugs", Detail: "eof"}},
	}}
}

func (b *gearIn) Gear(broker string) []mqttbridge.SeenGear {
	if broker != "" && broker != "barn" {
		return nil
	}
	var out []mqttbridge.SeenGear
	for _, g := range b.heard {
		seen := mqttbridge.SeenGear{Gear: g, Kind: "tasmota", Messages: 2}
		for d := range b.h.registry.All(registry.Selector{}, "") {
			if d.Gear != nil && *d.Gear == g {
				seen.DeviceID = d.ID
			}
		}
		out = append(out, seen)
	}
	return out
}

func (b *gearIn) Allow(ctx context.Context, g registry.Gear, id string, labels map[string]string, note string) (*registry.Device, error) {
	if g.Profile != "plugs" {
		return nil, fmt.Errorf("%w: %s", mqttbridge.ErrUnknownGear, g.Profile)
	}
	if id == "" {
		id = strings.ReplaceAll(g.Name, "/", "-")
	}
	return b.h.registry.Create(ctx, registry.NewDevice{ID: id, Kind: registry.KindMQTT, Gear: &g, Labels: labels, Note: note, KeyID: b.h.keyring.ActiveID()})
}

func (b *gearIn) Sample(ctx context.Context, r mqttbridge.SampleRequest, tell func(mqttbridge.SampleProgress) error) error {
	b.samples <- r
	switch r.Broker {
	case "away":
		return fmt.Errorf("%w: refused", mqttbridge.ErrUnreachable)
	case "long":
		<-ctx.Done()
		return ctx.Err()
	}
	if err := tell(mqttbridge.SampleProgress{Messages: 1}); err != nil {
		return err
	}
	return tell(mqttbridge.SampleProgress{Messages: 2, Done: true, Config: "brokers: []\n", Asked: []string{"plant/press"},
		Gear: []mqttbridge.SampledGear{{Kind: "tasmota", Profile: "plugs", Name: "x", DeviceID: "x", Status: "online", Commands: []string{"POWER"},
			Fields: []*devicev1.FieldDescription{{Name: "power", Unit: "W", Kind: devicev1.Kind_KIND_DOUBLE}}}},
		Unrecognised: []mqttbridge.SampledTopic{{Topic: "a/b", Messages: 1, Payload: "?", Reason: "not JSON"}}})
}

func newBridged(t *testing.T) (*hub, *gearIn) {
	b := &gearIn{samples: make(chan mqttbridge.SampleRequest, 8)}
	h := newHub(t, func(d *api.Deps) { d.Bridge = b })
	b.h = h
	for _, name := range []string{"north/1", "south/1", "stray"} {
		b.heard = append(b.heard, registry.Gear{Broker: "barn", Profile: "plugs", Name: name})
	}
	return h, b
}

func allowGear(name, id, site string) *operatorv1.AllowGearRequest {
	return &operatorv1.AllowGearRequest{Gear: &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: name}, DeviceId: id,
		Labels: map[string]string{"site": site}, Note: "by the door"}
}

// Gear becomes a device by AllowGear; what is taken, unknown or badly named
// is refused with its code.
func TestAllowGear(t *testing.T) {
	h, _ := newBridged(t)
	ctx, c := testContext(t), h.as(h.token("o", registry.RoleOperator, ""))
	d := must(c.bridge.AllowGear(ctx, req(allowGear("north/1", "", "north"))))(t).Msg.GetDevice()
	if d.GetId() != "north-1" || d.GetKind() != registry.KindMQTT || d.GetGear().GetName() != "north/1" || d.GetGear().GetBroker() != "barn" ||
		d.GetGear().GetProfile() != "plugs" || d.GetLabels()["site"] != "north" || d.GetNote() != "by the door" {
		t.Errorf("device %v", d)
	}
	if shown := must(c.devices.GetDevice(ctx, req(&operatorv1.GetDeviceRequest{Id: "north-1"})))(t).Msg.GetDevice(); shown.GetGear().GetName() != "north/1" {
		t.Errorf("GetDevice shows gear %v", shown.GetGear())
	}
	_, err := c.bridge.AllowGear(ctx, req(allowGear("stray", "north-1", "north")))
	wantCode(t, "an id that is taken", err, connect.CodeAlreadyExists)
	_, err = c.bridge.AllowGear(ctx, req(allowGear("stray", "no good id", "north")))
	wantCode(t, "a bad id", err, connect.CodeInvalidArgument)
	_, err = c.bridge.AllowGear(ctx, req(allowGear("", "x", "north")))
	wantCode(t, "no gear", err, connect.CodeInvalidArgument)
	for name, gear := range map[string]*operatorv1.Gear{
		"broker":  {Broker: "shed", Profile: "plugs", Name: "x"},
		"profile": {Broker: "barn", Profile: "lamps", Name: "x"},
	} {
		_, err = c.bridge.AllowGear(ctx, req(&operatorv1.AllowGearRequest{Gear: gear}))
		wantCode(t, "unknown "+name, err, connect.CodeNotFound)
	}
	_, err = c.devices.RotateDevice(ctx, req(&operatorv1.RotateDeviceRequest{Id: "north-1"}))
	wantCode(t, "rotate", err, connect.CodeFailedPrecondition)

	records := must(h.as(h.admin).operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords()
	if !slices.ContainsFunc(records, func(r *operatorv1.AuditRecord) bool {
		return r.GetMethod() == "BridgeService/AllowGear" && r.GetSubject() == "barn/plugs/north/1" && r.GetOutcome() == "ok" &&
			strings.Contains(r.GetDetail(), "device=north-1")
	}) {
		t.Errorf("the audit log does not tell of it: %v", records)
	}
}

// Who is bound to a selector sees its own gear, of others neither names nor
// counts nor troubles, and may neither allow nor sample.
func TestBoundOperatorSeesOnlyItsGear(t *testing.T) {
	h, _ := newBridged(t)
	ctx, root := testContext(t), h.as(h.admin)
	for _, site := range []string{"north", "south"} {
		must(root.bridge.AllowGear(ctx, req(allowGear(site+"/1", "", site))))(t)
	}
	bound := h.as(h.token("ann", registry.RoleAdmin, "site=north"))
	names := func(c clients, r *operatorv1.ListGearRequest) string {
		var all []string
		for _, g := range must(c.bridge.ListGear(ctx, req(r)))(t).Msg.GetGear() {
			all = append(all, g.GetGear().GetName()+"="+g.GetDeviceId())
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		who  clients
		req  *operatorv1.ListGearRequest
		want string
	}{
		{root, &operatorv1.ListGearRequest{}, "north/1=north-1 south/1=south-1 stray="},
		{root, &operatorv1.ListGearRequest{Broker: "barn", UnknownOnly: true}, "stray="},
		{bound, &operatorv1.ListGearRequest{}, "north/1=north-1"},
		{bound, &operatorv1.ListGearRequest{UnknownOnly: true}, ""},
	} {
		if got := names(c.who, c.req); got != c.want {
			t.Errorf("gear %v: %q, want %q", c.req, got, c.want)
		}
	}
	_, err := bound.bridge.ListGear(ctx, req(&operatorv1.ListGearRequest{Broker: "shed"}))
	wantCode(t, "gear of an unknown broker", err, connect.CodeNotFound)

	all := must(root.bridge.ListBrokers(ctx, req(&operatorv1.ListBrokersRequest{})))(t).Msg.GetBrokers()
	if len(all) != 1 || all[0].GetMessages() != 7 || all[0].GetProfiles()[0].GetGearUnknown() != 1 || all[0].GetProblems()[0].GetTopic() != "tele/x/STATE" {
		t.Errorf("brokers %v", all)
	}
	own := must(bound.bridge.ListBrokers(ctx, req(&operatorv1.ListBrokersRequest{})))(t).Msg.GetBrokers()
	if len(own) != 1 || !own[0].GetConnected() || own[0].GetMessages() != 0 || own[0].GetUnknownGear() != 0 || len(own[0].GetProblems()) != 0 {
		t.Errorf("a bound operator's brokers: %v", own)
	}
	if p := own[0].GetProfiles(); len(p) != 1 || p[0].GetGearAllowed() != 1 || p[0].GetGearUnknown() != 0 || p[0].GetMessages() != 0 {
		t.Errorf("a bound operator's profiles: %v", p)
	}
	_, err = bound.bridge.AllowGear(ctx, req(allowGear("stray", "", "north")))
	wantCode(t, "allow", err, connect.CodePermissionDenied)
	_, err = sampleAll(ctx, bound, &operatorv1.SampleBrokerRequest{Broker: "barn"})
	wantCode(t, "sample", err, connect.CodePermissionDenied)
}

func sampleAll(ctx context.Context, c clients, r *operatorv1.SampleBrokerRequest) (all []*operatorv1.SampleBrokerResponse, err error) {
	stream, err := c.bridge.SampleBroker(ctx, req(r))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		all = append(all, stream.Msg())
	}
	return all, stream.Err()
}

// A sample reaches the bridge as it was asked for and comes back whole; it is
// audited without its password, and ends when its operator's token does.
func TestSampleBroker(t *testing.T) {
	h, b := newBridged(t)
	ctx, c := testContext(t), h.as(h.token("sam", registry.RoleAdmin, ""))
	got, err := sampleAll(ctx, c, &operatorv1.SampleBrokerRequest{
		Broker: "tcp://u:secret@127.0.0.1:1", Duration: durationpb.New(5 * time.Second), Filters: []string{"a/#"}, User: "u", Password: "secret", NoRebirth: true,
	})
	if err != nil || len(got) != 2 || got[0].GetDone() || !got[1].GetDone() || got[1].GetConfigYaml() != "brokers: []\n" {
		t.Fatalf("sample: %v, %v", got, err)
	}
	gear, topic := got[1].GetGear()[0], got[1].GetUnrecognised()[0]
	if gear.GetDeviceId() != "x" || gear.GetFields()[0].GetUnit() != "W" || gear.GetFields()[0].GetKind() != operatorv1.FieldKind_FIELD_KIND_DOUBLE ||
		gear.GetCommands()[0] != "POWER" || gear.GetStatus() != "online" || topic.GetTopic() != "a/b" || topic.GetReason() != "not JSON" || len(got[1].GetAsked()) != 1 || got[1].GetAsked()[0] != "plant/press" {
		t.Errorf("sample %v", got[1])
	}
	asked := <-b.samples
	if asked.Duration != 5*time.Second || asked.User != "u" || asked.Password != "secret" || len(asked.Filters) != 1 || !asked.NoRebirth {
		t.Errorf("asked %+v", asked)
	}
	_, err = sampleAll(ctx, c, &operatorv1.SampleBrokerRequest{Broker: "barn", Duration: durationpb.New(0)})
	wantCode(t, "a sample of no time", err, connect.CodeInvalidArgument)
	if err != nil && !strings.Contains(err.Error(), "0s is not within 1s to 10m0s") {
		t.Error(err)
	}
	_, err = sampleAll(ctx, c, &operatorv1.SampleBrokerRequest{Broker: "away"})
	wantCode(t, "a broker that is away", err, connect.CodeFailedPrecondition)

	eventually(t, "the samples are in the audit log", func() bool {
		text := ""
		for _, r := range must(h.as(h.admin).operators.ListAudit(ctx, req(&operatorv1.ListAuditRequest{})))(t).Msg.GetRecords() {
			text += r.String()
		}
		if strings.Contains(text, "secret") {
			t.Fatal("the audit log holds a password")
		}
		return strings.Contains(text, "BridgeService/SampleBroker") && strings.Contains(text, "tcp://127.0.0.1:1") && strings.Contains(text, "no_rebirth rebirths=1") && strings.Contains(text, "failed_precondition")
	})

	ended := make(chan error, 1)
	go func() {
		_, err := sampleAll(ctx, c, &operatorv1.SampleBrokerRequest{Broker: "long"})
		ended <- err
	}()
	for (<-b.samples).Broker != "long" {
	}
	if err := h.registry.DeleteOperator(ctx, "sam"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a sample of a revoked operator", <-ended, connect.CodeUnauthenticated)
}

// A hub without a bridge has no brokers, and says how to get one.
func TestNoBridge(t *testing.T) {
	h := newHub(t)
	ctx, c := testContext(t), h.as(h.admin)
	if b := must(c.bridge.ListBrokers(ctx, req(&operatorv1.ListBrokersRequest{})))(t).Msg.GetBrokers(); len(b) != 0 {
		t.Errorf("brokers %v", b)
	}
	if g := must(c.bridge.ListGear(ctx, req(&operatorv1.ListGearRequest{})))(t).Msg.GetGear(); len(g) != 0 {
		t.Errorf("gear %v", g)
	}
	_, err := c.bridge.AllowGear(ctx, req(allowGear("stray", "", "north")))
	wantCode(t, "allow", err, connect.CodeFailedPrecondition)
	_, err2 := sampleAll(ctx, c, &operatorv1.SampleBrokerRequest{Broker: "barn"})
	wantCode(t, "sample", err2, connect.CodeFailedPrecondition)
	for _, err := range []error{err, err2} {
		if err != nil && !strings.Contains(err.Error(), "--mqtt-bridge") {
			t.Errorf("it does not say what to do: %v", err)
		}
	}
}
