package mqttbridge

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/mqtttest"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

const sparkplugConfig = `
brokers:
  - name: barn
    url: BROKER
    keep-alive: 2s
    profiles:
      - kind: sparkplug
        auto-allow: ["g/*"]
`

// sparkplugPayload of a message.
func sparkplugPayload(t testing.TB, seq uint64, metrics ...*sparkplugv1.Payload_Metric) []byte {
	t.Helper()
	raw, err := proto.Marshal(&sparkplugv1.Payload{Seq: &seq, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func levelMetric(name string, v float64) *sparkplugv1.Payload_Metric {
	m := &sparkplugv1.Payload_Metric{
		Alias: proto.Uint64(7), Datatype: proto.Uint32(uint32(sparkplugv1.DataType_Double)),
		Value: &sparkplugv1.Payload_Metric_DoubleValue{DoubleValue: v},
	}
	if name != "" {
		m.Name = &name
	}
	return m
}

// What the broker has kept of a node comes before the session counts: the
// birth that it lacks is asked for as soon as it does, whether the node says
// anything more or not. Nodes that nobody has allowed are left alone.
func TestBirthIsAskedForWhenTheSessionCounts(t *testing.T) {
	t.Parallel()
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	gear := broker.Dial(t, "gear")
	asked := mqtttest.Subscribe(t, gear, "spBv1.0/+/NCMD/+", 1)
	b, stop := r.bridge(broker.URL, sparkplugConfig)
	up(t, b)
	mqtttest.Publish(t, gear, "spBv1.0/g/NDATA/n", 1, false, sparkplugPayload(t, 1, levelMetric("", 1)))
	if m := mqtttest.Next(t, asked); m.Topic() != "spBv1.0/g/NCMD/n" {
		t.Fatal(m.Topic())
	}
	stop()
	for range 3 {
		mqtttest.Publish(t, gear, "spBv1.0/other/NDATA/n", 1, false, sparkplugPayload(t, 1, levelMetric("", 1)))
		mqtttest.Publish(t, gear, "spBv1.0/g/NDATA/n", 1, false, sparkplugPayload(t, 2, levelMetric("", 2)))
		_, stop = r.bridge(broker.URL, sparkplugConfig)
		if m := mqtttest.Next(t, asked); m.Topic() != "spBv1.0/g/NCMD/n" {
			t.Fatal(m.Topic())
		}
		stop()
	}
}
