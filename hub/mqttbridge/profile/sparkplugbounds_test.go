package profile

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
)

func TestSparkplugRefusesHostilePayloads(t *testing.T) {
	p := testSparkplug()
	refused(t, p, Message{Topic: topicNBIRTH, Payload: []byte("ON"), Received: exampleReceived}, "not a Sparkplug payload")
	refused(t, p, Message{Topic: topicNBIRTH, Payload: make([]byte, MaxPayloadBytes+1), Received: exampleReceived}, "too large")
	refused(t, p, Message{Topic: topicNBIRTH, Payload: []byte(strings.Repeat("\x12\x00", maxSparkplugMetrics+1)), Received: exampleReceived}, "too many metrics")
	retained := message(t, topicNBIRTH, birthOf(0))
	retained.Retained = true
	refused(t, p, retained, "retained")
	for _, topic := range []string{"spBv1.0/g/NBIRTH/n/d", "spBv1.0/g/DBIRTH/n", "spBv1.0/g/NSHOUT/n", "spBv1.0/g/NBIRTH", "spBv1.0//NBIRTH/n",
		"spBv1.0/g/NBIRTH/", "other/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/"} {
		refused(t, p, message(t, topic, birthOf(0)), "not a Sparkplug topic")
	}
	refused(t, p, message(t, "spBv1.0/g/NBIRTH/"+strings.Repeat("n", 200), birthOf(0)), "gear name too long")
	refused(t, p, message(t, "spBv1.0/g/NBIRTH/a\x07", birthOf(0)), "gear name not printable")

	// Templates within templates.
	inner := &sparkplugWire{}
	for range 40 {
		inner = &sparkplugWire{Value: &sparkplugv1.Payload_Metric_TemplateValue{TemplateValue: &sparkplugv1.Payload_Template{Metrics: []*sparkplugWire{inner}}}}
	}
	refused(t, p, message(t, topicNBIRTH, birthOf(0, inner)), "not a Sparkplug payload")
	if len(p.nodes) > 0 {
		t.Errorf("%d nodes are remembered of refused messages", len(p.nodes))
	}

	// A birth over the fields of a device keeps the first.
	var many []*sparkplugWire
	for i := range 400 {
		many = append(many, metric(fmt.Sprintf("m/%03d", i), sparkplugv1.DataType_Int32, uint32(i)))
	}
	r := one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, many...))))
	if len(r.Rows) != 1 || len(r.Rows[0].Fields) != telemetry.MaxFields || !strings.Contains(r.Problem, "over 256 fields") {
		t.Errorf("400 metrics: %d rows, %q", len(r.Rows), r.Problem)
	}
}

func TestSparkplugMemoryIsBounded(t *testing.T) {
	p := testSparkplug()
	for i := range MaxGear {
		take(t, p, message(t, fmt.Sprintf("spBv1.0/g/NBIRTH/n%d", i), birthOf(0)))
	}
	refused(t, p, message(t, "spBv1.0/g/NBIRTH/more", birthOf(0)), "too much gear")
	refused(t, p, message(t, "spBv1.0/g/DBIRTH/n1/d", payloadOf(1)), "too much gear")
	take(t, p, message(t, "spBv1.0/g/NDEATH/n7", deathOf(0)))
	take(t, p, message(t, "spBv1.0/g/NBIRTH/more", birthOf(0)))

	// Aliases: births are refused when all that is remembered is over the
	// bound, and the count of bytes is honest.
	p = testSparkplug()
	var many []*sparkplugWire
	for i := range 2000 {
		m := metric(fmt.Sprintf("line/%04d/%s", i, strings.Repeat("x", 90)), sparkplugv1.DataType_Int32, uint32(i))
		m.Alias = proto.Uint64(uint64(i))
		many = append(many, m)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	births, refusals := 0, 0
	raw := message(t, topicNBIRTH, birthOf(0, many...))
	for i := range 100 {
		raw.Topic = fmt.Sprintf("spBv1.0/g/NBIRTH/n%d", i)
		if _, err := p.Decode(raw, nil); err == nil {
			births++
		} else if ReasonOf(err) == "too many metrics" {
			refusals++
		} else {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if births == 0 || refusals == 0 || p.memory > maxSparkplugMemory {
		t.Errorf("%d births taken, %d refused, %d bytes", births, refusals, p.memory)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2*maxSparkplugMemory {
		t.Errorf("the heap grew by %d MiB where %d are allowed for", grown>>20, maxSparkplugMemory>>20)
	}
	runtime.KeepAlive(p)
}
