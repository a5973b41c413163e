package profile

import (
	"encoding/json"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// FuzzSparkplug gives a payload to a node that was born, as every kind of
// message, and as the answer to a command: whatever it is, what comes of it
// can be stored and the books of what is remembered are right.
func FuzzSparkplug(f *testing.F) {
	for _, name := range []string{"nbirth", "dbirth", "ndata", "ddata", "ndeath", "ddeath", "ncmd", "dcmd"} {
		f.Add(example(f, name).Payload)
	}
	f.Add([]byte("\x12\x00\x12\x02\x10\x07\x18\x05"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		p := testSparkplug()
		take(t, p, message(t, topicNBIRTH, birthOf(1, aliased(metric("a", sparkplugv1.DataType_Int8, uint32(1)), 7))))
		take(t, p, message(t, topicDBIRTH, payloadOf(1, aliased(metric("b", sparkplugv1.DataType_String, "x"), 8))))
		plan, err := p.Command("g/n", Command{ID: "1", Name: "write", Args: map[string]any{"metric": "a", "value": json.Number("5")}})
		if err != nil || proto.Unmarshal(plan.Publish[0].Payload, new(sparkplugMessage)) != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{topicNDATA, topicDDATA, topicNBIRTH, topicDBIRTH, "spBv1.0/g/DDEATH/n/d", topicNDEATH} {
			m := Message{Topic: topic, Payload: payload, Received: exampleReceived}
			plan.Match(m)
			reports, err := p.Decode(m, nil)
			early := (*Early)(nil)
			if err != nil && len(reports) > 0 && !errors.As(err, &early) {
				t.Errorf("%s: %d reports and %v", topic, len(reports), err)
			}
			for _, r := range reports {
				checkReport(t, r)
			}
		}
		memory, gear := 0, 0
		for _, n := range p.nodes {
			gear, memory = gear+1+len(n.devices), memory+n.self.memory
			for _, d := range n.devices {
				memory += d.memory
			}
		}
		if memory != p.memory || gear != p.gear {
			t.Errorf("%d bytes and %d pieces of gear are counted, %d and %d are there", p.memory, p.gear, memory, gear)
		}
	})
}
