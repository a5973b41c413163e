package firmwaresim

import (
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// sparkplugGear is a Sparkplug B edge node with one device, "motor" (Eclipse
// Sparkplug 3.0.0). Metrics go by aliases after the birth.
type sparkplugGear struct {
	group, name string
	*plug
	seq      uint8
	bdSeq    uint64
	speed    int32
	setpoint float64
	said     uint64 // when: Unix milliseconds
}

// sparkplugDevice is the node's device.
const sparkplugDevice = "motor"

// The aliases of the metrics.
const (
	aliasVoltage = iota + 1
	aliasTemperature
	aliasSpeed
	aliasRunning
	aliasSetpoint
)

func newSparkplugGear(names []string, rng *rand.Rand) gearModel {
	group, name, _ := strings.Cut(names[0], "/")
	return &sparkplugGear{group: group, name: name, plug: newPlug(rng), setpoint: 1450}
}

func (g *sparkplugGear) topic(verb string) string {
	topic := "spBv1.0/" + g.group + "/" + verb + "/" + g.name
	if strings.HasPrefix(verb, "D") {
		topic += "/" + sparkplugDevice
	}
	return topic
}

func (g *sparkplugGear) gear(verb string) string {
	name := g.group + "/" + g.name
	if strings.HasPrefix(verb, "D") {
		name += "/" + sparkplugDevice
	}
	return name
}

type sparkplugMetric = sparkplugv1.Payload_Metric

// metric by name and, with an alias, by that.
func metric(name string, alias uint64, datatype sparkplugv1.DataType, value any) *sparkplugMetric {
	m := &sparkplugMetric{Datatype: proto.Uint32(uint32(datatype))}
	if name != "" {
		m.Name = &name
	}
	if alias > 0 {
		m.Alias = &alias
	}
	switch v := value.(type) {
	case int32:
		m.Value = &sparkplugv1.Payload_Metric_IntValue{IntValue: uint32(v)}
	case uint64:
		m.Value = &sparkplugv1.Payload_Metric_LongValue{LongValue: v}
	case float32:
		m.Value = &sparkplugv1.Payload_Metric_FloatValue{FloatValue: v}
	case float64:
		m.Value = &sparkplugv1.Payload_Metric_DoubleValue{DoubleValue: v}
	case bool:
		m.Value = &sparkplugv1.Payload_Metric_BooleanValue{BooleanValue: v}
	case string:
		m.Value = &sparkplugv1.Payload_Metric_StringValue{StringValue: v}
	}
	return m
}

func withUnit(m *sparkplugMetric, unit string) *sparkplugMetric {
	m.Properties = &sparkplugv1.Payload_PropertySet{Keys: []string{"engUnit"}, Values: []*sparkplugv1.Payload_PropertyValue{{
		Type: proto.Uint32(uint32(sparkplugv1.DataType_String)), Value: &sparkplugv1.Payload_PropertyValue_StringValue{StringValue: unit}}}}
	return m
}

// message of the node: all but deaths carry the sequence. Each has a
// millisecond of its own: no two tell other values for one time.
func (g *sparkplugGear) message(verb string, metrics ...*sparkplugMetric) gearMessage {
	g.said = max(g.said+1, uint64(time.Now().UnixMilli()))
	for _, m := range metrics {
		m.Timestamp = &g.said
	}
	payload := &sparkplugv1.Payload{Timestamp: &g.said, Metrics: metrics}
	if verb != "NDEATH" {
		if verb == "NBIRTH" {
			g.seq = 0
		}
		payload.Seq = proto.Uint64(uint64(g.seq))
		g.seq++
	}
	raw, err := proto.Marshal(payload)
	if err != nil {
		return gearMessage{} // of values made here: never
	}
	m := gearMessage{topic: g.topic(verb), payload: raw}
	if strings.HasSuffix(verb, "DATA") || strings.HasSuffix(verb, "BIRTH") {
		m.reading = g.gear(verb)
	}
	return m
}

func (g *sparkplugGear) death() gearMessage {
	return g.message("NDEATH", metric("bdSeq", 0, sparkplugv1.DataType_Int64, g.bdSeq))
}

func (g *sparkplugGear) will(n uint64) gearMessage {
	g.bdSeq = n % 256
	return g.death()
}

func (g *sparkplugGear) listens() []string {
	return []string{g.topic("NCMD"), g.topic("DCMD")}
}

func (g *sparkplugGear) born(uint64) []gearMessage {
	r := g.plug.read(time.Now())
	return []gearMessage{
		g.message("NBIRTH",
			metric("bdSeq", 0, sparkplugv1.DataType_Int64, g.bdSeq),
			metric("Node Control/Rebirth", 0, sparkplugv1.DataType_Boolean, false),
			metric("Properties/Hardware Make", 0, sparkplugv1.DataType_String, "Tetherline"),
			metric("Properties/Firmware Version", 0, sparkplugv1.DataType_String, "sim 1.0"),
			withUnit(metric("Supply Voltage", aliasVoltage, sparkplugv1.DataType_Float, float32(r.voltage)), "V")),
		g.message("DBIRTH",
			withUnit(metric("Bearing/Temperature", aliasTemperature, sparkplugv1.DataType_Double, r.temperature), "°C"),
			withUnit(metric("Speed", aliasSpeed, sparkplugv1.DataType_Int32, g.speed), "rpm"),
			metric("Running", aliasRunning, sparkplugv1.DataType_Boolean, g.on),
			withUnit(metric("Setpoint", aliasSetpoint, sparkplugv1.DataType_Double, g.setpoint), "rpm")),
	}
}

func (g *sparkplugGear) goodbye() []gearMessage { return []gearMessage{g.death()} }

func (g *sparkplugGear) read(now time.Time) []gearMessage {
	r := g.plug.read(now)
	if g.speed = 0; g.on {
		g.speed = int32(math.Round(g.setpoint + 5*g.rng.NormFloat64()))
	}
	return []gearMessage{
		g.message("NDATA", metric("", aliasVoltage, sparkplugv1.DataType_Float, float32(r.voltage))),
		g.message("DDATA",
			metric("", aliasTemperature, sparkplugv1.DataType_Double, r.temperature),
			metric("", aliasSpeed, sparkplugv1.DataType_Int32, g.speed)),
	}
}

func (g *sparkplugGear) obey(topic string, payload []byte) ([]gearMessage, gearOutcome) {
	command := new(sparkplugv1.Payload)
	if proto.Unmarshal(payload, command) != nil {
		return nil, notUnderstood
	}
	var changed []*sparkplugMetric
	for _, m := range command.GetMetrics() {
		running, isBool := m.GetValue().(*sparkplugv1.Payload_Metric_BooleanValue)
		setpoint, isDouble := m.GetValue().(*sparkplugv1.Payload_Metric_DoubleValue)
		is := func(name string, alias uint64) bool {
			return m.GetName() == name || m.Alias != nil && m.GetAlias() == alias
		}
		switch {
		case topic == g.topic("NCMD") && m.GetName() == "Node Control/Rebirth" && m.GetBooleanValue():
			return g.born(0), obeyed
		case topic == g.topic("DCMD") && is("Running", aliasRunning) && isBool:
			g.on = running.BooleanValue
			changed = append(changed, metric("", aliasRunning, sparkplugv1.DataType_Boolean, g.on))
		case topic == g.topic("DCMD") && is("Setpoint", aliasSetpoint) && isDouble:
			g.setpoint = min(max(setpoint.DoubleValue, 0), 3000)
			changed = append(changed, metric("", aliasSetpoint, sparkplugv1.DataType_Double, g.setpoint))
		}
	}
	if len(changed) == 0 {
		return nil, notUnderstood
	}
	return []gearMessage{g.message("DDATA", changed...)}, obeyed
}
