package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// The gear of the specification's examples.
const (
	exampleNode   = "Sparkplug B Devices/Raspberry Pi"
	exampleDevice = exampleNode + "/Pibrella"
	exampleTime   = 1486144502122 // ms
)

// exampleReceived is soon after the time of the examples.
var exampleReceived = time.UnixMilli(exampleTime).Add(300 * time.Millisecond)

// example is a message of the specification.
func example(t testing.TB, name string) Message {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "sparkplug", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Topic   string
		Payload struct {
			Timestamp uint64
			Seq       *uint64
			Metrics   []struct {
				Name      string
				Timestamp uint64
				DataType  string
				Value     any
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	p := &sparkplugMessage{Timestamp: &file.Payload.Timestamp, Seq: file.Payload.Seq}
	for _, m := range file.Payload.Metrics {
		datatype := uint32(sparkplugv1.DataType_value[m.DataType])
		if datatype == 0 {
			t.Fatalf("%s: data type %q", m.Name, m.DataType)
		}
		metric := &sparkplugWire{Name: &m.Name, Timestamp: &m.Timestamp, Datatype: &datatype}
		value := m.Value
		if n, ok := value.(float64); ok {
			value = json.Number(fmt.Sprint(n))
		}
		if err := setSparkplugValue(metric, datatype, value); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		p.Metrics = append(p.Metrics, metric)
	}
	return message(t, file.Topic, p)
}

func message(t testing.TB, topic string, p *sparkplugMessage) Message {
	t.Helper()
	raw, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return Message{Topic: topic, Payload: raw, Received: exampleReceived}
}

// metric makes a metric; a name that begins with '@' is an alias.
func metric(name string, datatype sparkplugv1.DataType, value any) *sparkplugWire {
	m := &sparkplugWire{Datatype: proto.Uint32(uint32(datatype))}
	if alias, ok := strings.CutPrefix(name, "@"); ok {
		var n uint64
		_, _ = fmt.Sscan(alias, &n)
		m.Alias = &n
	} else {
		m.Name = &name
	}
	switch v := value.(type) {
	case nil:
		m.IsNull = proto.Bool(true)
	case uint32:
		m.Value = &sparkplugv1.Payload_Metric_IntValue{IntValue: v}
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
	default:
		panic(fmt.Sprintf("%T", value))
	}
	return m
}

func aliased(m *sparkplugWire, alias uint64) *sparkplugWire {
	m.Alias = &alias
	return m
}

// payload of now, in the tests' time.
func payloadOf(seq uint64, metrics ...*sparkplugWire) *sparkplugMessage {
	return &sparkplugMessage{Timestamp: proto.Uint64(exampleTime), Seq: &seq, Metrics: metrics}
}

func birthOf(bdSeq uint64, metrics ...*sparkplugWire) *sparkplugMessage {
	return payloadOf(0, append([]*sparkplugWire{metric("bdSeq", sparkplugv1.DataType_Int64, bdSeq)}, metrics...)...)
}

func deathOf(bdSeq uint64) *sparkplugMessage {
	return &sparkplugMessage{Timestamp: proto.Uint64(exampleTime),
		Metrics: []*sparkplugWire{metric("bdSeq", sparkplugv1.DataType_Int64, bdSeq)}}
}

const (
	topicNBIRTH = "spBv1.0/g/NBIRTH/n"
	topicNDATA  = "spBv1.0/g/NDATA/n"
	topicNDEATH = "spBv1.0/g/NDEATH/n"
	topicDBIRTH = "spBv1.0/g/DBIRTH/n/d"
	topicDDATA  = "spBv1.0/g/DDATA/n/d"
)

// take decodes a message that has to be usable, or early, and checks what the bridge
// relies on.
func take(t *testing.T, p Profile, m Message) []Report {
	t.Helper()
	reports, err := p.Decode(m, nil)
	if early := (*Early)(nil); err != nil && !errors.As(err, &early) {
		t.Fatalf("%s: %v", m.Topic, err)
	}
	for _, r := range reports {
		checkReport(t, r)
	}
	return reports
}

func checkReport(t *testing.T, r Report) {
	t.Helper()
	if err := checkGear(r.Gear); err != nil {
		t.Errorf("gear %q: %v", r.Gear, err)
	}
	if len(r.Rows) > telemetry.MaxFrameRows {
		t.Errorf("%d rows in a report", len(r.Rows))
	}
	for _, row := range r.Rows {
		if row.Device != "" || row.Labels != "" || wire.CheckMeasurementName(row.Measurement) != nil || row.Measurement == "" {
			t.Errorf("row %+v", row)
		}
		seen := map[string]bool{}
		for _, f := range row.Fields {
			if err := wire.CheckColumnName(f.Name); err != nil || f.Value.Kind() == 0 || seen[f.Name] {
				t.Errorf("field %+v: %v, seen %v", f, err, seen[f.Name])
			}
			seen[f.Name] = true
		}
		if len(row.Fields) == 0 || len(row.Fields) > telemetry.MaxFields {
			t.Errorf("row with %d fields", len(row.Fields))
		}
	}
	if d := r.Describe; d != nil {
		if n := proto.Size(d); n > 16<<10 {
			t.Errorf("description of %d bytes", n)
		}
	}
}

func one(t *testing.T, reports []Report) Report {
	t.Helper()
	if len(reports) != 1 {
		t.Fatalf("%d reports, want one: %+v", len(reports), reports)
	}
	return reports[0]
}

func refused(t *testing.T, p Profile, m Message, reason string) {
	t.Helper()
	reports, err := p.Decode(m, nil)
	if ReasonOf(err) != reason || len(reports) > 0 {
		t.Errorf("%s: %v, %d reports, want a refusal %q", m.Topic, err, len(reports), reason)
	}
}

// fieldsOf a row as "name=kind:value" in order.
func fieldsOf(row telemetry.Row) string {
	var b strings.Builder
	for i, f := range row.Fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%s:%v", f.Name, f.Value.Kind(), plain(f.Value))
	}
	return b.String()
}

func wantRow(t *testing.T, r Report, ns int64, fields string) {
	t.Helper()
	if len(r.Rows) != 1 {
		t.Fatalf("%d rows, want one: %+v", len(r.Rows), r)
	}
	if got := fieldsOf(r.Rows[0]); got != fields || r.Rows[0].Time != ns {
		t.Errorf("row at %d: %s\nwant  at %d: %s", r.Rows[0].Time, got, ns, fields)
	}
}

func TestSparkplugExamplesOfTheSpecification(t *testing.T) {
	p := testSparkplug()
	for _, name := range []string{"nbirth", "dbirth", "ndata", "ddata", "ndeath", "ddeath"} {
		m := example(t, name)
		matches := 0
		for _, f := range p.Filters() {
			if TopicMatches(f, m.Topic) {
				matches++
			}
		}
		if settings, ok := sparkplugKind().Recognise(m); matches != 1 || !ok || settings != nil {
			t.Errorf("%s: %d filters match, recognised %v with %v", name, matches, ok, settings)
		}
	}
	// What hosts say is told by the same subscription, and is nothing here.
	for _, topic := range []string{"spBv1.0/STATE/scada", "spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d"} {
		if reports, err := p.Decode(Message{Topic: topic, Payload: []byte(`{"online":true}`), Retained: true}, nil); err != nil || len(reports) != 0 {
			t.Errorf("%s: %v, %v; want nothing", topic, reports, err)
		}
	}
	ns := int64(exampleTime) * 1e6

	birth := one(t, take(t, p, example(t, "nbirth")))
	if birth.Gear != exampleNode || birth.Status != Online || birth.NotAlive || birth.Problem != "" || birth.Publish != nil {
		t.Errorf("birth: %+v", birth)
	}
	wantRow(t, birth, ns, "Node_Control_Scan_Rate=int:3000 Properties_Hardware_Make=string:Raspberry Pi "+
		"Properties_Hardware_Model=string:Pi 3 Model B Properties_OS=string:Raspbian "+
		"Properties_OS_Version=string:Jessie with PIXEL/11.01.2017 Supply_Voltage=float:12.100000381469727")
	if n := len(birth.Describe.GetFields()); n != 6 || len(birth.Describe.GetCommands()) != 2 {
		t.Errorf("description: %v", birth.Describe)
	}

	device := one(t, take(t, p, example(t, "dbirth")))
	if device.Gear != exampleDevice || device.Status != Online || len(device.Rows) != 1 || len(device.Rows[0].Fields) != 14 {
		t.Errorf("device's birth: %+v", device)
	}
	wantRow(t, one(t, take(t, p, example(t, "ndata"))), ns, "Supply_Voltage=float:12.300000190734863")

	// The example's seq, 0, is not the next: the data are taken, and a birth
	// is asked for.
	data := one(t, take(t, p, example(t, "ddata")))
	wantRow(t, data, ns, "Inputs_A=bool:true Inputs_C=bool:true")
	wantRebirth(t, data.Publish, "spBv1.0/Sparkplug B Devices/NCMD/Raspberry Pi")
	if !strings.Contains(data.Problem, "seq gap") {
		t.Errorf("problem %q", data.Problem)
	}

	gone := one(t, take(t, p, example(t, "ddeath")))
	if gone.Gear != exampleDevice || gone.Status != Offline || gone.Reason != "DDEATH" {
		t.Errorf("device's death: %+v", gone)
	}
	died := one(t, take(t, p, example(t, "ndeath")))
	if died.Gear != exampleNode || died.Status != Offline || !died.NotAlive {
		t.Errorf("death: %+v", died)
	}
	if len(p.nodes) != 0 || p.gear != 0 || p.memory != 0 {
		t.Errorf("after the death %d nodes, %d pieces of gear and %d bytes are remembered", len(p.nodes), p.gear, p.memory)
	}
}

// wantRebirth checks that the one thing to be published is the specification's
// request for a birth.
func wantRebirth(t *testing.T, publish []Publish, topic string) {
	t.Helper()
	if len(publish) != 1 || publish[0].Topic != topic {
		t.Fatalf("to be published: %+v, want a rebirth request to %s", publish, topic)
	}
	got := new(sparkplugMessage)
	if err := proto.Unmarshal(publish[0].Payload, got); err != nil {
		t.Fatal(err)
	}
	want := new(sparkplugMessage)
	if err := proto.Unmarshal(example(t, "ncmd").Payload, want); err != nil {
		t.Fatal(err)
	}
	if got.GetTimestamp() == 0 {
		t.Error("a rebirth request without a time")
	}
	want.Timestamp = got.Timestamp
	want.Metrics[0].Timestamp = got.GetMetrics()[0].Timestamp
	if !proto.Equal(got, want) {
		t.Errorf("rebirth request %v, want %v", got, want)
	}
}
