package mqttbridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// sparkplugData is a message of a node that was born long ago.
func sparkplugData(t *testing.T, topic string) profile.Message {
	t.Helper()
	raw, err := proto.Marshal(&sparkplugv1.Payload{Seq: proto.Uint64(7), Metrics: []*sparkplugv1.Payload_Metric{
		{Alias: proto.Uint64(1), Value: &sparkplugv1.Payload_Metric_DoubleValue{DoubleValue: 21.5}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return profile.Message{Topic: topic, Payload: raw, Received: time.Now()}
}

// Nodes are asked for their births once, some at a time; nobody is asked whose
// birth would not be heard, or where that is not wished.
func TestBirthsAreAskedForOnce(t *testing.T) {
	const nodes = 3*birthsAtOnce + 1
	var kept []profile.Message
	for i := range nodes {
		node := fmt.Sprintf("node-%d", i)
		kept = append(kept, sparkplugData(t, "spBv1.0/plant/NDATA/"+node), sparkplugData(t, "spBv1.0/plant/DDATA/"+node+"/motor"))
	}
	var told []string
	publish := func(p profile.Publish) error {
		told = append(told, p.Topic)
		return nil
	}
	b := newBirths(&SampleRequest{Filters: []string{"#"}}, publish)
	for round := 1; round <= 5; round++ {
		b.ask(kept)
		if want := min(round*birthsAtOnce, nodes); len(told) != want || len(b.nodes()) != want {
			t.Fatalf("round %d: %d requests, %d nodes; want %d", round, len(told), len(b.nodes()), want)
		}
	}
	again := sparkplugData(t, "spBv1.0/plant/NDATA/node-0") // the profile would ask again
	again.Received = again.Received.Add(time.Minute)
	if b.ask(append(kept, again)); len(told) != nodes {
		t.Errorf("%d requests of %d nodes: one was asked twice", len(told), nodes)
	}
	if told[0] != "spBv1.0/plant/NCMD/node-0" || b.nodes()[0] != "plant/node-0" || !strings.Contains(b.lacking("plant/node-0/motor"), "has not come") {
		t.Errorf("asked by %s; %s", told[0], b.lacking("plant/node-0/motor"))
	}

	for why, c := range map[string]struct {
		r    SampleRequest
		says string
	}{
		"quiet":      {SampleRequest{Filters: []string{"#"}, NoRebirth: true}, "as you wished"},
		"by filters": {SampleRequest{Filters: []string{"spBv1.0/+/NDATA/#"}}, "filters"},
	} {
		told = nil
		b := newBirths(&c.r, publish)
		b.ask(kept)
		if len(told) > 0 || len(b.nodes()) > 0 || !strings.Contains(b.lacking("plant/node-0"), c.says) {
			t.Errorf("%s: %d were asked; %s", why, len(told), b.lacking("plant/node-0"))
		}
	}
	b = newBirths(&SampleRequest{Filters: []string{"#"}}, func(profile.Publish) error { return errors.New("not taken") })
	b.ask(kept[:1])
	if len(b.nodes()) > 0 || !strings.Contains(b.lacking("plant/node-0"), "not taken") {
		t.Errorf("not published: %v, %s", b.nodes(), b.lacking("plant/node-0"))
	}
}
