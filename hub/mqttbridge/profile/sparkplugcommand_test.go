package profile

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

func TestSparkplugCommands(t *testing.T) {
	p := testSparkplug()
	p.now = func() time.Time { return time.UnixMilli(exampleTime) }
	args := func(metric string, value any) Command {
		return Command{ID: "1", Name: "write", Args: map[string]any{"metric": metric, "value": value}}
	}
	if _, err := p.Command(exampleDevice, args("Outputs/LEDs/Green", true)); ReasonOf(err) != "no birth yet" {
		t.Errorf("before the birth: %v", err)
	}
	take(t, p, example(t, "nbirth"))
	take(t, p, example(t, "dbirth"))

	// The specification's DCMD, one metric of it.
	plan, err := p.Command(exampleDevice, args("Outputs/LEDs/Green", true))
	if err != nil {
		t.Fatal(err)
	}
	dcmdExample := new(sparkplugMessage)
	if err := proto.Unmarshal(example(t, "dcmd").Payload, dcmdExample); err != nil {
		t.Fatal(err)
	}
	dcmdExample.Metrics = dcmdExample.Metrics[:1]
	sent := new(sparkplugMessage)
	if err := proto.Unmarshal(plan.Publish[0].Payload, sent); err != nil {
		t.Fatal(err)
	}
	if plan.Publish[0].Topic != "spBv1.0/Sparkplug B Devices/DCMD/Raspberry Pi/Pibrella" || !proto.Equal(sent, dcmdExample) {
		t.Errorf("published to %s: %v, want %v", plan.Publish[0].Topic, sent, dcmdExample)
	}
	answer := func(topic string, metrics ...*sparkplugWire) (Answer, bool) {
		return plan.Match(message(t, topic, payloadOf(2, metrics...)))
	}
	const ddataTopic = "spBv1.0/Sparkplug B Devices/DDATA/Raspberry Pi/Pibrella"
	green := "Outputs/LEDs/Green"
	for i, wrong := range []func() (Answer, bool){
		func() (Answer, bool) { return answer(ddataTopic, metric(green, sparkplugv1.DataType_Boolean, false)) },
		func() (Answer, bool) {
			return answer(ddataTopic, metric("Inputs/A", sparkplugv1.DataType_Boolean, true))
		},
		func() (Answer, bool) {
			return answer("spBv1.0/Sparkplug B Devices/DDATA/Raspberry Pi/other", metric(green, sparkplugv1.DataType_Boolean, true))
		},
		func() (Answer, bool) {
			old := metric(green, sparkplugv1.DataType_Boolean, true)
			old.IsHistorical = proto.Bool(true)
			return answer(ddataTopic, old)
		},
		func() (Answer, bool) { return plan.Match(Message{Topic: ddataTopic, Payload: []byte("x")}) },
	} {
		if _, ok := wrong(); ok {
			t.Errorf("message %d is taken for the answer", i)
		}
	}
	got, ok := answer(ddataTopic, metric(green, sparkplugv1.DataType_Boolean, true))
	if !ok || got.Phase != devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED || string(got.Result) != `{"metric":"Outputs/LEDs/Green","value":true}` {
		t.Errorf("answer %+v, %v", got, ok)
	}

	// By its field, with an alias, and answered by the alias.
	take(t, p, message(t, topicNBIRTH, birthOf(0, aliased(metric("set/point", sparkplugv1.DataType_Int16, uint32(0)), 3))))
	plan, err = p.Command("g/n", args("set_point", json.Number("-5")))
	if err != nil {
		t.Fatal(err)
	}
	sent.Reset()
	if err := proto.Unmarshal(plan.Publish[0].Payload, sent); err != nil {
		t.Fatal(err)
	}
	if m := sent.GetMetrics()[0]; plan.Publish[0].Topic != "spBv1.0/g/NCMD/n" || m.Name != nil || m.GetAlias() != 3 ||
		m.GetIntValue() != 0xfffffffb || m.GetDatatype() != 2 || sent.Seq != nil {
		t.Errorf("published to %s: %v", plan.Publish[0].Topic, sent)
	}
	if _, ok := answer(topicNDATA, metric("@3", sparkplugv1.DataType_Int16, uint32(0xfffffffb))); !ok {
		t.Error("the value under its alias is no answer")
	}

	// Rebirth.
	plan, err = p.Command("g/n", Command{ID: "2", Name: "rebirth", Args: map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	wantRebirth(t, plan.Publish, "spBv1.0/g/NCMD/n")
	if _, ok := plan.Match(message(t, topicNDATA, payloadOf(1))); ok {
		t.Error("data are taken for a birth")
	}
	if _, ok := plan.Match(message(t, topicNBIRTH, birthOf(0))); !ok {
		t.Error("the birth is no answer")
	}

	for _, c := range []struct {
		gear   string
		c      Command
		reason string
	}{
		{"g/n", args("set/point", json.Number("40000")), "bad argument"},
		{"g/n", args("set/point", json.Number("1.5")), "bad argument"},
		{"g/n", args("set/point", true), "bad argument"},
		{"g/n", args("set/point", nil), "bad argument"},
		{"g/n", args("nothing", true), "bad argument"},
		{"g/n", Command{Name: "write", Args: map[string]any{"metric": "set/point", "value": json.Number("1"), "more": true}}, "bad argument"},
		{"g/n", Command{Name: "open", Args: map[string]any{}}, "unknown command"},
		{exampleDevice, Command{Name: "rebirth", Args: map[string]any{}}, "unknown command"},
		{"g/other", args("set/point", json.Number("1")), "no birth yet"},
		{"plug", args("set/point", json.Number("1")), "unknown gear"},
	} {
		plan, err := p.Command(c.gear, c.c)
		var r *Refusal
		if !errors.As(err, &r) || r.Reason != c.reason || plan.Publish != nil {
			t.Errorf("%s %s %v: %v, want %q", c.gear, c.c.Name, c.c.Args, err, c.reason)
		}
	}
}
