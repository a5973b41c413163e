package profile

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Command plans "write" and, for a node, "rebirth".
func (p *sparkplug) Command(gear string, c Command) (Plan, error) {
	t, n, g, err := p.find(gear)
	if err != nil {
		return Plan{}, err
	}
	switch c.Name {
	case "rebirth":
		if t.device != "" {
			return Plan{}, Refuse("unknown command", "rebirth is a command of the node, %s", t.nodeGear())
		}
		if err := onlyArguments(c); err != nil {
			return Plan{}, err
		}
		return Plan{Publish: []Publish{rebirthRequest(t, p.now())}, Match: matchBirth(t), Turn: t.to(nbirth)}, nil
	case "write":
		if err := onlyArguments(c, "metric", "value"); err != nil {
			return Plan{}, err
		}
		if !n.born || !g.born {
			return Plan{}, Refuse("no birth yet", "the gear's metrics are known from its birth")
		}
		return p.write(t, g, c)
	}
	if t.device == "" {
		return Plan{}, unknownCommand(c.Name, "write", "rebirth")
	}
	return Plan{}, unknownCommand(c.Name, "write")
}

// find gear by its name, "group/node" or "group/node/device".
func (p *sparkplug) find(gear string) (t sparkplugTopic, n *sparkplugNode, g *sparkplugGear, err error) {
	levels := strings.Split(gear, "/")
	if len(levels) < 2 || len(levels) > 3 {
		return t, nil, nil, Refuse("unknown gear", "%s is neither group/node nor group/node/device", quoted(gear))
	}
	t = sparkplugTopic{group: levels[0], node: levels[1]}
	n, g = p.nodes[t.gear()], &sparkplugGear{}
	if n == nil {
		n = &sparkplugNode{}
	}
	if len(levels) == 2 {
		return t, n, &n.self, nil
	}
	t.device = levels[2]
	if d := n.devices[t.device]; d != nil {
		g = d
	}
	return t, n, g, nil
}

// write plans an NCMD or DCMD with one metric, by its alias where the birth
// gave it one, else by its name.
func (p *sparkplug) write(t sparkplugTopic, g *sparkplugGear, c Command) (Plan, error) {
	name, ok := c.Args["metric"].(string)
	if !ok {
		return Plan{}, Refuse("bad argument", "metric takes a metric's name")
	}
	metric := g.metrics[name]
	if metric == nil {
		if metric = g.fields[name]; metric == nil || metric.field == "" {
			return Plan{}, Refuse("bad argument", "the birth has no metric %s", quoted(name))
		}
	}
	now := p.now()
	ms := uint64(now.UnixMilli())
	wire := &sparkplugWire{Timestamp: &ms, Datatype: proto.Uint32(metric.datatype)}
	if err := setSparkplugValue(wire, metric.datatype, c.Args["value"]); err != nil {
		return Plan{}, Refuse("bad argument", "value of %s: %v", quoted(metric.name), err)
	}
	want, err := sparkplugReading(wire, metric.datatype)
	if err != nil {
		return Plan{}, Refuse("bad argument", "value of %s: %v", quoted(metric.name), err)
	}
	if metric.hasAlias {
		wire.Alias = proto.Uint64(metric.alias)
	} else {
		wire.Name = proto.String(metric.name)
	}
	raw, err := proto.Marshal(&sparkplugv1.Payload{Timestamp: &ms, Metrics: []*sparkplugWire{wire}})
	if err != nil {
		return Plan{}, Refuse("bad argument", "value of %s: %v", quoted(metric.name), err)
	}
	verb := ncmd
	if t.device != "" {
		verb = dcmd
	}
	return Plan{
		Publish: []Publish{{Topic: t.to(verb), Payload: raw}},
		Match:   p.matchWritten(t, metric.name, want),
		Turn:    gearTurn(t.gear(), metric.name),
	}, nil
}

// gearTurn is the turn of those who write to one metric.
func gearTurn(gear, metric string) string { return gear + "\x00" + metric }

// matchWritten waits for data or a birth of the gear in which the metric has
// the value that was written.
func (p *sparkplug) matchWritten(t sparkplugTopic, name string, want telemetry.Value) func(Message) (Answer, bool) {
	return func(m Message) (Answer, bool) {
		from, err := parseSparkplugTopic(m.Topic)
		if err != nil || m.Retained || from.gear() != t.gear() || from.verb == ndeath || from.verb == ddeath {
			return Answer{}, false
		}
		payload, err := decodeSparkplug(m.Payload)
		if err != nil {
			return Answer{}, false
		}
		_, n, g, err := p.find(t.gear())
		if err != nil {
			return Answer{}, false
		}
		for _, metric := range payload.GetMetrics() {
			if (!n.born || !g.born) && metric.Name == nil {
				continue // its alias may stand for another one by now
			}
			if metric.GetIsHistorical() || metric.GetIsNull() || !g.names(metric, name) {
				continue
			}
			got, err := sparkplugReading(metric, g.metrics[name].datatype)
			if err == nil && got == want {
				return succeeded(map[string]any{"metric": name, "value": plain(got)}), true
			}
		}
		return Answer{}, false
	}
}

// names tells whether a metric of a message is the named one of the birth.
func (g *sparkplugGear) names(m *sparkplugWire, name string) bool {
	known := g.metrics[name]
	if known == nil {
		return false
	}
	if m.Name != nil {
		return m.GetName() == name
	}
	return m.Alias != nil && g.aliases[m.GetAlias()] == known
}

func matchBirth(t sparkplugTopic) func(Message) (Answer, bool) {
	t.verb = nbirth
	return func(m Message) (Answer, bool) {
		if m.Retained || m.Topic != t.to(nbirth) {
			return Answer{}, false
		}
		if _, err := decodeSparkplug(m.Payload); err != nil {
			return Answer{}, false
		}
		return succeeded(nil), true
	}
}

// setSparkplugValue puts a decoded JSON value into a metric of a data type.
func setSparkplugValue(m *sparkplugWire, datatype uint32, value any) error {
	switch kind := sparkplugKindOf(datatype); kind {
	case telemetry.Bool:
		v, ok := value.(bool)
		if !ok {
			return fmt.Errorf("takes true or false")
		}
		m.Value = &sparkplugv1.Payload_Metric_BooleanValue{BooleanValue: v}
	case telemetry.String:
		v, ok := value.(string)
		if !ok {
			return fmt.Errorf("takes a text")
		}
		m.Value = &sparkplugv1.Payload_Metric_StringValue{StringValue: v}
	case telemetry.Float, telemetry.Double:
		number, ok := value.(json.Number)
		if !ok {
			return fmt.Errorf("takes a number")
		}
		return setSparkplugFloat(m, kind, number)
	case telemetry.Int:
		return setSparkplugInteger(m, sparkplugv1.DataType(datatype), value)
	default:
		return fmt.Errorf("a %s cannot be written", dataTypeName(datatype))
	}
	return nil
}

func setSparkplugFloat(m *sparkplugWire, kind telemetry.Kind, number json.Number) error {
	bits := 64
	if kind == telemetry.Float {
		bits = 32
	}
	v, err := strconv.ParseFloat(number.String(), bits)
	if err != nil {
		return fmt.Errorf("%s is out of range", quoted(number.String()))
	}
	if kind == telemetry.Float {
		m.Value = &sparkplugv1.Payload_Metric_FloatValue{FloatValue: float32(v)}
	} else {
		m.Value = &sparkplugv1.Payload_Metric_DoubleValue{DoubleValue: v}
	}
	return nil
}

// setSparkplugInteger takes a number without a fraction or, for a DateTime, a
// time as in RFC 3339.
func setSparkplugInteger(m *sparkplugWire, datatype sparkplugv1.DataType, value any) error {
	signed, bits := integerOf(datatype)
	var n int64
	switch v := value.(type) {
	case json.Number:
		whole, ok := parseInt(v.String())
		if !ok {
			return fmt.Errorf("takes a whole number to %d", int64(math.MaxInt64))
		}
		n = whole
	case string:
		t, err := time.Parse(time.RFC3339, v)
		if err != nil || datatype != sparkplugv1.DataType_DateTime {
			return fmt.Errorf("takes a whole number")
		}
		n = t.UnixMilli()
	default:
		return fmt.Errorf("takes a whole number")
	}
	switch {
	case !signed && n < 0,
		!signed && bits < 64 && n>>bits != 0,
		signed && bits < 64 && (n < -1<<(bits-1) || n >= 1<<(bits-1)):
		return fmt.Errorf("%d is out of the range of %s", n, datatype)
	}
	if bits == 64 {
		m.Value = &sparkplugv1.Payload_Metric_LongValue{LongValue: uint64(n)}
	} else {
		m.Value = &sparkplugv1.Payload_Metric_IntValue{IntValue: uint32(int32(n))}
		if !signed {
			m.Value = &sparkplugv1.Payload_Metric_IntValue{IntValue: uint32(n)}
		}
	}
	return nil
}

func succeeded(result map[string]any) Answer {
	a := Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED}
	if result != nil {
		a.Result, _ = json.Marshal(result) // of plain values: no error
	}
	return a
}

// plain is a value as JSON shows it.
func plain(v telemetry.Value) any {
	switch v.Kind() {
	case telemetry.Int:
		return v.Int64()
	case telemetry.Bool:
		return v.Bool()
	case telemetry.String:
		return v.Str()
	}
	return v.Float64()
}
