package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Bridge presents legacy gear behind MQTT brokers as devices. All methods may
// run at once; Brokers and Gear answer from memory.
type Bridge interface {
	// Brokers in the order of the config.
	Brokers() []mqttbridge.BrokerStatus
	// Gear that was heard on a broker, "" for all, or allowed before.
	Gear(broker string) []mqttbridge.SeenGear
	// Allow makes a device of gear; an empty id is made from its name.
	Allow(ctx context.Context, gear registry.Gear, id string, labels map[string]string, note string) (*registry.Device, error)
	// Sample listens to a broker and tells what it finds, about once a
	// second and at the end, until it is over, ctx ends or tell fails.
	Sample(ctx context.Context, r mqttbridge.SampleRequest, tell func(mqttbridge.SampleProgress) error) error
}

// bridgeService implements operatorv1connect.BridgeServiceHandler. An operator
// who is bound to a selector sees the brokers without what they tell of other
// people's gear.
type bridgeService struct{ *Server }

func (s *bridgeService) ListBrokers(ctx context.Context, _ *connect.Request[operatorv1.ListBrokersRequest]) (*connect.Response[operatorv1.ListBrokersResponse], error) {
	res := &operatorv1.ListBrokersResponse{}
	if s.deps.Bridge == nil {
		return connect.NewResponse(res), nil
	}
	bound := !scope(ctx).Empty()
	for _, b := range s.deps.Bridge.Brokers() {
		if bound {
			b = s.narrowed(ctx, b)
		}
		res.Brokers = append(res.Brokers, brokerProto(&b))
	}
	return connect.NewResponse(res), nil
}

// narrowed is what a bound operator may know of a broker: how it is, and how
// many of its devices are the caller's.
func (s *bridgeService) narrowed(ctx context.Context, b mqttbridge.BrokerStatus) mqttbridge.BrokerStatus {
	own := make(map[string]uint32)
	for _, g := range s.deps.Bridge.Gear(b.Name) {
		if s.seesGear(ctx, &g) {
			own[g.Gear.Profile]++
		}
	}
	out := mqttbridge.BrokerStatus{Name: b.Name, URL: b.URL, Connected: b.Connected, Since: b.Since, Error: b.Error}
	for _, p := range b.Profiles {
		out.Profiles = append(out.Profiles, mqttbridge.ProfileStatus{Name: p.Name, Kind: p.Kind, GearAllowed: own[p.Name]})
	}
	return out
}

// seesGear reports whether gear is shown to the caller: gear that is not
// allowed has no labels and is for those who are bound to none.
func (s *bridgeService) seesGear(ctx context.Context, g *mqttbridge.SeenGear) bool {
	if g.DeviceID == "" {
		return scope(ctx).Empty()
	}
	return s.sees(ctx, g.DeviceID)
}

func (s *bridgeService) ListGear(ctx context.Context, req *connect.Request[operatorv1.ListGearRequest]) (*connect.Response[operatorv1.ListGearResponse], error) {
	m := req.Msg
	if err := s.knowsBroker(m.GetBroker()); err != nil {
		return nil, err
	}
	res := &operatorv1.ListGearResponse{}
	if s.deps.Bridge == nil {
		return connect.NewResponse(res), nil
	}
	for _, g := range s.deps.Bridge.Gear(m.GetBroker()) {
		if m.GetUnknownOnly() && g.DeviceID != "" || !s.seesGear(ctx, &g) {
			continue
		}
		res.Gear = append(res.Gear, seenGearProto(&g))
	}
	return connect.NewResponse(res), nil
}

// knowsBroker checks a broker that a request names; "" stands for all.
func (s *bridgeService) knowsBroker(name string) error {
	if name == "" {
		return nil
	}
	if s.deps.Bridge == nil {
		return mqttbridge.ErrNoBridge
	}
	var names []string
	for _, b := range s.deps.Bridge.Brokers() {
		if b.Name == name {
			return nil
		}
		names = append(names, b.Name)
	}
	if len(names) == 0 {
		return mqttbridge.ErrNoBridge
	}
	return fmt.Errorf("%w %.80q: there is %s", errNoBroker, name, strings.Join(names, ", "))
}

func (s *bridgeService) AllowGear(ctx context.Context, req *connect.Request[operatorv1.AllowGearRequest]) (*connect.Response[operatorv1.AllowGearResponse], error) {
	m := req.Msg
	if s.deps.Bridge == nil {
		return nil, mqttbridge.ErrNoBridge
	}
	gear := registry.Gear{Broker: m.GetGear().GetBroker(), Profile: m.GetGear().GetProfile(), Name: m.GetGear().GetName()}
	if gear.Broker == "" || gear.Profile == "" || gear.Name == "" {
		return nil, fmt.Errorf("%w: gear is named by broker, profile and name", errBadRequest)
	}
	if err := s.knowsBroker(gear.Broker); err != nil {
		return nil, err
	}
	d, err := s.deps.Bridge.Allow(ctx, gear, m.GetDeviceId(), m.GetLabels(), m.GetNote())
	if err != nil {
		return nil, err
	}
	callOf(ctx).note(strings.TrimSpace("device=" + d.ID + " " + labelChanges(d.Labels, nil)))
	return connect.NewResponse(&operatorv1.AllowGearResponse{Device: s.deviceProto(d)}), nil
}

func (s *bridgeService) SampleBroker(ctx context.Context, req *connect.Request[operatorv1.SampleBrokerRequest], stream *connect.ServerStream[operatorv1.SampleBrokerResponse]) error {
	asked, err := s.sample(ctx, req.Msg, stream)
	if failed := s.auditSample(ctx, req, asked, err); failed != nil {
		s.log.Error("a sample is missing from the audit log", "operator", callOf(ctx).operator.Name, "error", failed)
	}
	return err
}

// sample answers how many nodes were asked for their births.
func (s *bridgeService) sample(ctx context.Context, m *operatorv1.SampleBrokerRequest, stream *connect.ServerStream[operatorv1.SampleBrokerResponse]) (asked int, err error) {
	if s.deps.Bridge == nil {
		return 0, mqttbridge.ErrNoBridge
	}
	r := mqttbridge.SampleRequest{Broker: m.GetBroker(), Filters: m.GetFilters(), User: m.GetUser(), Password: m.GetPassword(), NoRebirth: m.GetNoRebirth()}
	if asked := m.GetDuration(); asked != nil {
		if err := asked.CheckValid(); err != nil {
			return 0, fmt.Errorf("%w: duration: %w", errBadRequest, err)
		}
		if r.Duration = asked.AsDuration(); r.Duration == 0 {
			return 0, fmt.Errorf("%w: duration: 0s is not within %v to %v; leave it out for %v", errBadRequest, mqttbridge.MinSample, mqttbridge.MaxSample, mqttbridge.DefaultSample)
		}
	}
	err = s.deps.Bridge.Sample(ctx, r, func(p mqttbridge.SampleProgress) error {
		asked = len(p.Asked)
		return stream.Send(sampleProto(&p))
	})
	return asked, err
}

// auditSample records a sample when it is over, with how many nodes were asked
// for their births: the guard does so for calls that change something, which
// are no streams.
func (s *bridgeService) auditSample(ctx context.Context, req connect.AnyRequest, asked int, outcome error) error {
	rec := registry.Record{
		Time: time.Now(), Operator: callOf(ctx).operator.Name, Method: shortMethod(req.Spec().Procedure),
		Subject: subjectOf(req.Any()), Outcome: "ok", RemoteAddr: callOf(ctx).addr, Detail: detailOf(req.Any()),
	}
	if asked > 0 {
		rec.Detail = strings.TrimSpace(fmt.Sprintf("%s rebirths=%d", rec.Detail, asked))
	}
	if outcome = becauseOf(ctx, outcome); outcome != nil {
		rec.Outcome = codeOf(outcome).String()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return s.deps.Registry.Audit(ctx, rec)
}
