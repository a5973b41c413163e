package api

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/commands"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// commandSpec reads what is to be done. What it leaves open has the defaults
// of the package commands.
func commandSpec(m *operatorv1.CommandSpec) (commands.Spec, error) {
	if m == nil {
		return commands.Spec{}, fmt.Errorf("%w: spec is missing", errBadRequest)
	}
	spec := commands.Spec{Name: m.GetName(), Payload: commands.Payload{JSON: m.GetJson(), Protobuf: m.GetProtobuf()}}
	var err error
	if spec.TTL, err = givenDuration("ttl", m.GetTtl()); err != nil {
		return commands.Spec{}, err
	}
	if spec.Timeout, err = givenDuration("timeout", m.GetTimeout()); err != nil {
		return commands.Spec{}, err
	}
	switch m.GetReplay() {
	case operatorv1.ReplayClass_REPLAY_CLASS_UNSPECIFIED, operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED:
		spec.Replay = commands.UntilDelivered
	case operatorv1.ReplayClass_REPLAY_CLASS_ONCE:
		spec.Replay = commands.Once
	case operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS:
		spec.Replay = commands.LatestWins
	default:
		return commands.Spec{}, fmt.Errorf("%w: replay class %d is not known", errBadRequest, m.GetReplay())
	}
	return spec, nil
}

// givenDuration is 0 where d is not set. A duration that is set to nothing is
// an error: it would otherwise mean the default.
func givenDuration(name string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
		return 0, fmt.Errorf("%w: %s must be above 0", errBadRequest, name)
	}
	return d.AsDuration(), nil
}

// commandStates reads a filter; none: all states.
func commandStates(list []operatorv1.CommandState) ([]commands.State, error) {
	var states []commands.State
	for _, m := range list {
		s := commands.State(m)
		if m <= 0 || int(m) > len(commands.States()) {
			return nil, fmt.Errorf("%w: command state %d is not known", errBadRequest, m)
		}
		states = append(states, s)
	}
	return states, nil
}

// stateProto relies on the two enums having the same numbers; a test holds
// them together.
func stateProto(s commands.State) operatorv1.CommandState { return operatorv1.CommandState(s) }

func specProto(s *commands.Spec) *operatorv1.CommandSpec {
	m := &operatorv1.CommandSpec{Name: s.Name, Ttl: durationpb.New(s.TTL), Timeout: durationpb.New(s.Timeout)}
	switch {
	case s.Payload.Protobuf != nil:
		m.Payload = &operatorv1.CommandSpec_Protobuf{Protobuf: s.Payload.Protobuf}
	case s.Payload.JSON != "":
		m.Payload = &operatorv1.CommandSpec_Json{Json: s.Payload.JSON}
	}
	switch s.Replay {
	case commands.Once:
		m.Replay = operatorv1.ReplayClass_REPLAY_CLASS_ONCE
	case commands.LatestWins:
		m.Replay = operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS
	default:
		m.Replay = operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED
	}
	return m
}

func commandProto(c *commands.Command) *operatorv1.Command {
	m := &operatorv1.Command{
		Id: c.ID, DeviceId: c.Device, Spec: specProto(&c.Spec), State: stateProto(c.State),
		Created: timestamp(c.Created), Expires: timestamp(c.Expires), Updated: timestamp(c.Updated), Ended: timestamp(c.Ended),
		Attempts: c.Attempts, ProgressPercent: c.Progress, Code: c.Code, Message: c.Message,
		Reason: c.Reason, GroupId: c.Group, Operator: c.Operator, NoCode: c.NoCode,
	}
	switch {
	case c.Result.Protobuf != nil:
		m.Result = &operatorv1.Command_Protobuf{Protobuf: c.Result.Protobuf}
	case c.Result.JSON != "":
		m.Result = &operatorv1.Command_Json{Json: c.Result.JSON}
	}
	return m
}

func eventProto(e *commands.Event) *operatorv1.CommandEvent {
	return &operatorv1.CommandEvent{
		Time: timestamp(e.Time), State: stateProto(e.State), Reason: e.Reason, Node: e.Node, SessionEpoch: e.Epoch,
		Attempt: e.Attempt, ProgressPercent: e.Progress, Message: e.Message, Code: e.Code, NoCode: e.NoCode,
	}
}

// groupProto names of the members only those that the caller sees.
func groupProto(g *commands.Group, sees func(device string) bool) *operatorv1.Group {
	m := &operatorv1.Group{
		Id: g.ID, Selector: g.Selector, Spec: specProto(&g.Spec), Created: timestamp(g.Created), Ended: timestamp(g.Ended),
		State: string(g.State), Reason: g.Reason, Total: uint32(max(g.Total, 0)), Issued: uint32(max(g.Issued, 0)),
		Refused: uint32(max(g.Refused, 0)), ByState: make(map[string]uint32, len(g.ByState)),
		Operator: g.Operator, RatePerSecond: g.Rate, StopAfterFailureShare: g.StopAt,
	}
	for _, r := range g.Refusals {
		if sees(r.Device) {
			m.Refusals = append(m.Refusals, &operatorv1.Group_Refusal{DeviceId: r.Device, Reason: r.Reason})
		}
	}
	for state, n := range g.ByState {
		m.ByState[state.String()] = uint32(max(n, 0))
	}
	return m
}
