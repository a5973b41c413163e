package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
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

// take decodes a message that has to be usable, and checks what the bridge
// relies on.
func take(t *testing.T, p Profile, m Message) []Report {
	t.Helper()
	reports, err := p.Decode(m, nil)
	if err != nil {
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
	p := newSparkplug(sparkplugSettings{})
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

func TestSparkplugAliasesAndRebirth(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	data := message(t, topicNDATA, payloadOf(1, metric("@7", sparkplugv1.DataType_Double, 1.5)))

	// Before the birth nothing is guessed; the birth is asked for, not with
	// every message.
	first := one(t, take(t, p, data))
	wantRebirth(t, first.Publish, "spBv1.0/g/NCMD/n")
	if len(first.Rows) > 0 || first.Problem == "" || first.Gear != "g/n" {
		t.Errorf("data before the birth: %+v", first)
	}
	refused(t, p, data, "no birth yet")
	data.Received = data.Received.Add(firstRebirth)
	wantRebirth(t, one(t, take(t, p, data)).Publish, "spBv1.0/g/NCMD/n")

	one(t, take(t, p, message(t, topicNBIRTH, birthOf(1, aliased(metric("level", sparkplugv1.DataType_Double, 1.0), 7)))))
	ns := int64(exampleTime) * 1e6
	wantRow(t, one(t, take(t, p, data)), ns, "level=double:1.5")

	// An alias that the birth did not tell of.
	data = message(t, topicNDATA, payloadOf(2, metric("@7", sparkplugv1.DataType_Double, 2.5), metric("@8", sparkplugv1.DataType_Double, 3.5)))
	data.Received = data.Received.Add(time.Hour)
	r := one(t, take(t, p, data))
	wantRow(t, r, ns, "level=double:2.5")
	wantRebirth(t, r.Publish, "spBv1.0/g/NCMD/n")
	if !strings.Contains(r.Problem, "alias 8 is unknown") {
		t.Errorf("problem %q", r.Problem)
	}

	// The new birth gives the alias to another metric.
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(1, aliased(metric("flow", sparkplugv1.DataType_Double, 1.0), 7)))))
	wantRow(t, one(t, take(t, p, message(t, topicNDATA, payloadOf(1, metric("@7", sparkplugv1.DataType_Double, 9.5))))), ns, "flow=double:9.5")
}

func TestSparkplugSequence(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	level := func(v float64) *sparkplugWire { return metric("level", sparkplugv1.DataType_Double, v) }
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, level(0)))))
	for i := uint64(1); i < 600; i++ { // over 255 to 0, each message twice
		for range 2 {
			r := one(t, take(t, p, message(t, topicNDATA, payloadOf(i%256, level(float64(i))))))
			if r.Problem != "" || r.Publish != nil || len(r.Rows) != 1 {
				t.Fatalf("seq %d: %+v", i%256, r)
			}
		}
	}
	r := one(t, take(t, p, message(t, topicNDATA, payloadOf(599%256+2, level(1)))))
	if r.Publish == nil || len(r.Rows) != 1 || !strings.Contains(r.Problem, "seq gap") {
		t.Errorf("after a gap: %+v", r)
	}

	// A node that counts wrongly for ever is not asked with every birth.
	asked := 0
	for i := range uint64(1000) {
		m := message(t, topicNDATA, payloadOf(i*7%256, level(1)))
		m.Received = m.Received.Add(time.Duration(i) * time.Second)
		r := one(t, take(t, p, m))
		if r.Publish != nil {
			asked++
			birth := message(t, topicNBIRTH, birthOf(0, level(0)))
			birth.Received = m.Received
			take(t, p, birth)
		}
	}
	if asked < 5 || asked > 30 {
		t.Errorf("asked %d times in 1000 s", asked)
	}

	// After a reconnect what is in sequence is taken, and a birth is asked for.
	p = newSparkplug(sparkplugSettings{})
	one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, level(0)))))
	if p.Connected() != nil {
		t.Error("all nodes are asked at once")
	}
	r = one(t, take(t, p, message(t, topicNDATA, payloadOf(1, level(1)))))
	if len(r.Rows) != 1 || r.Publish == nil {
		t.Errorf("after a reconnect: %+v", r)
	}
}

func TestSparkplugDeaths(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	take(t, p, message(t, topicNBIRTH, birthOf(4)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	refused(t, p, message(t, topicNDEATH, deathOf(3)), "old death")
	refused(t, p, message(t, topicNDEATH, &sparkplugMessage{}), "death without bdSeq")

	// A rebirth in the same session says nothing of presence of its devices.
	reports := take(t, p, message(t, topicNBIRTH, birthOf(4)))
	if r := one(t, reports); r.Status != Online {
		t.Errorf("rebirth: %+v", r)
	}
	// Without its birth a device's data are refused.
	r := one(t, take(t, p, message(t, topicDDATA, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true)))))
	if len(r.Rows) > 0 || r.Publish == nil {
		t.Errorf("a device's data before its birth: %+v", r)
	}

	// The death takes the devices along.
	reports = take(t, p, message(t, topicNDEATH, deathOf(4)))
	if len(reports) != 2 || reports[0].Gear != "g/n/d" || reports[0].Status != Offline || reports[1].Gear != "g/n" || reports[1].Status != Offline {
		t.Errorf("death: %+v", reports)
	}

	// A new session without a death seen: the devices are offline until born.
	take(t, p, message(t, topicNBIRTH, birthOf(5)))
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	reports = take(t, p, message(t, topicNBIRTH, birthOf(6)))
	if len(reports) != 2 || reports[0].Gear != "g/n/d" || reports[0].Status != Offline || reports[1].Status != Online {
		t.Errorf("new session: %+v", reports)
	}
	// The will of the old connection comes late.
	refused(t, p, message(t, topicNDEATH, deathOf(5)), "old death")

	// Dead gear takes no room.
	take(t, p, message(t, topicDBIRTH, payloadOf(1, metric("on", sparkplugv1.DataType_Boolean, true))))
	take(t, p, message(t, topicNDEATH, deathOf(6)))
	if p.gear != 0 || p.memory != 0 || len(p.nodes) != 0 {
		t.Errorf("%d pieces of gear and %d bytes are remembered", p.gear, p.memory)
	}
}

// A transient value is not kept, and a description comes again, because the
// gear may have been allowed since.
func TestSparkplugTransientValuesAndDescriptions(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	a, b := metric("a", sparkplugv1.DataType_Boolean, true), metric("b", sparkplugv1.DataType_Boolean, true)
	b.IsTransient = proto.Bool(true)
	wantRow(t, one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, a, b)))), int64(exampleTime)*1e6, "a=bool:true")
	for i, want := range []bool{false, false, true, false} {
		m := message(t, topicNDATA, payloadOf(uint64(i+1), metric("a", sparkplugv1.DataType_Boolean, false)))
		m.Received = m.Received.Add(time.Duration(i) * describeAgain / 2)
		if r := one(t, take(t, p, m)); (r.Describe != nil) != want {
			t.Errorf("message %d: described %v, want %v", i, r.Describe != nil, want)
		}
	}
}

func TestSparkplugTypes(t *testing.T) {
	const none = ""
	for _, c := range []struct {
		datatype sparkplugv1.DataType
		value    any
		want     string // none: a problem
	}{
		{sparkplugv1.DataType_Int8, uint32(0xffffffff), "int:-1"},
		{sparkplugv1.DataType_Int8, uint32(0xff), "int:-1"}, // as Tahu's Python does
		{sparkplugv1.DataType_Int8, uint32(127), "int:127"},
		{sparkplugv1.DataType_Int8, uint32(300), none},
		{sparkplugv1.DataType_Int16, uint32(0x8000), "int:-32768"},
		{sparkplugv1.DataType_Int16, uint32(0xffff8000), "int:-32768"},
		{sparkplugv1.DataType_Int16, uint32(0x18000), none},
		{sparkplugv1.DataType_Int32, uint32(0xfffffffe), "int:-2"},
		{sparkplugv1.DataType_Int32, uint64(math.MaxUint64), "int:-1"},
		{sparkplugv1.DataType_Int64, uint64(math.MaxUint64 - 9), "int:-10"},
		{sparkplugv1.DataType_Int64, uint32(5), "int:5"},
		{sparkplugv1.DataType_Int64, uint32(0xffffffff), none}, // -1 or 4294967295
		{sparkplugv1.DataType_UInt8, uint32(255), "int:255"},
		{sparkplugv1.DataType_UInt8, uint32(256), none},
		{sparkplugv1.DataType_UInt16, uint32(65535), "int:65535"},
		{sparkplugv1.DataType_UInt32, uint32(0xffffffff), "int:4294967295"},
		{sparkplugv1.DataType_UInt32, uint64(0xffffffff), "int:4294967295"},
		{sparkplugv1.DataType_UInt64, uint64(math.MaxInt64), "int:9223372036854775807"},
		{sparkplugv1.DataType_UInt64, uint64(math.MaxInt64 + 1), none},
		{sparkplugv1.DataType_DateTime, uint64(exampleTime), "int:1486144502122"},
		{sparkplugv1.DataType_Float, float32(1.5), "float:1.5"},
		{sparkplugv1.DataType_Float, float32(math.Inf(1)), none},
		{sparkplugv1.DataType_Float, 1.5, none},
		{sparkplugv1.DataType_Double, 1.5, "double:1.5"},
		{sparkplugv1.DataType_Double, math.NaN(), none},
		{sparkplugv1.DataType_Boolean, true, "bool:true"},
		{sparkplugv1.DataType_Boolean, uint32(1), none},
		{sparkplugv1.DataType_String, "run", "string:run"},
		{sparkplugv1.DataType_Text, "run", "string:run"},
		{sparkplugv1.DataType_UUID, "run", "string:run"},
		{sparkplugv1.DataType_String, "\xff", none},
		{sparkplugv1.DataType_String, strings.Repeat("a", 4097), none},
		{sparkplugv1.DataType_Bytes, "run", none},
		{sparkplugv1.DataType_DataSet, "run", none},
		{sparkplugv1.DataType_Template, "run", none},
		{sparkplugv1.DataType_Unknown, uint32(1), none},
		{sparkplugv1.DataType(99), uint32(1), none},
	} {
		p := newSparkplug(sparkplugSettings{})
		r := one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, metric("a/b", c.datatype, c.value)))))
		if c.want == none {
			if len(r.Rows) > 0 || r.Problem == "" {
				t.Errorf("%v of %v: %+v, want a problem", c.value, c.datatype, r)
			}
			continue
		}
		if len(r.Rows) != 1 || fieldsOf(r.Rows[0]) != "a_b="+c.want || r.Problem != "" {
			t.Errorf("%v of %v: %+v, want %s", c.value, c.datatype, r, c.want)
		}
	}
}

func TestSparkplugTimes(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	take(t, p, message(t, topicNBIRTH, birthOf(0, metric("a", sparkplugv1.DataType_Int32, uint32(0)), metric("b", sparkplugv1.DataType_Int32, uint32(0)))))
	timed := func(name string, v uint32, ms uint64, historical bool) *sparkplugWire {
		m := metric(name, sparkplugv1.DataType_Int32, v)
		m.Timestamp, m.IsHistorical = &ms, &historical
		return m
	}
	const old = exampleTime - 3600_000
	r := one(t, take(t, p, message(t, topicNDATA, payloadOf(1,
		timed("a", 1, old, true), timed("b", 2, old, true),
		timed("a", 3, old+1, true),
		metric("a", sparkplugv1.DataType_Int32, uint32(4)), // the payload's time
		timed("a", 5, exampleTime, false),                  // the same time again
		metric("b", sparkplugv1.DataType_Int32, nil),
		timed("b", 6, 1000, false), // a clock that stands in 1970
		timed("b", 7, 1000, true),
	))))
	var got []string
	for _, row := range r.Rows {
		got = append(got, fmt.Sprint(row.Time, " ", fieldsOf(row)))
	}
	want := []string{
		fmt.Sprint(int64(old)*1e6, " a=int:1 b=int:2"),
		fmt.Sprint(int64(old+1)*1e6, " a=int:3"),
		fmt.Sprint(int64(exampleTime)*1e6, " a=int:4"),
		fmt.Sprint(int64(exampleTime)*1e6+1, " a=int:5"),
		"0 b=int:6",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(r.Problem, "(and 1 more)") {
		t.Errorf("problem %q", r.Problem)
	}
	// Without any time it is that of arrival.
	m := payloadOf(2, metric("a", sparkplugv1.DataType_Int32, uint32(8)))
	m.Timestamp = nil
	wantRow(t, one(t, take(t, p, message(t, topicNDATA, m))), 0, "a=int:8")

	// A flush of what was kept while offline: in reports of at most 1,000 rows.
	var kept []*sparkplugWire
	for i := range uint64(2500) {
		kept = append(kept, timed("a", uint32(i), old+i, true))
	}
	reports := take(t, p, message(t, topicNDATA, payloadOf(3, kept...)))
	rows := 0
	for _, r := range reports {
		rows += len(r.Rows)
	}
	if rows != 2500 || len(reports) != 3 {
		t.Errorf("%d rows in %d reports, want 2500 in 3", rows, len(reports))
	}
}

func TestSparkplugNames(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	i := func(name string) *sparkplugWire { return metric(name, sparkplugv1.DataType_Int32, uint32(1)) }
	r := one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, i("a/b"), i("time"), i("a b"), i("a_b"), i("c"),
		aliased(i("x"), 5), aliased(i("y"), 5), i("c")))))
	wantRow(t, r, int64(exampleTime)*1e6, "time_=int:1 c=int:1 x=int:1 y=int:1")
	if r.Problem == "" {
		t.Error("names that collide are no problem")
	}
	// An alias of two metrics stands for none, and no birth will mend it.
	r = one(t, take(t, p, message(t, topicNDATA, payloadOf(1, metric("@5", sparkplugv1.DataType_Int32, uint32(3))))))
	if len(r.Rows) > 0 || r.Publish != nil || !strings.Contains(r.Problem, "two metrics") {
		t.Errorf("data of an alias of two: %+v", r)
	}
	// The unit of the properties.
	m := metric("temp", sparkplugv1.DataType_Float, float32(1))
	m.Properties = &sparkplugv1.Payload_PropertySet{Keys: []string{"engLow", "engUnit"}, Values: []*sparkplugv1.Payload_PropertyValue{
		{}, {Value: &sparkplugv1.Payload_PropertyValue_StringValue{StringValue: "°C"}}}}
	r = one(t, take(t, p, message(t, topicNBIRTH, birthOf(0, m))))
	if f := r.Describe.GetFields(); len(f) != 1 || f[0].GetUnit() != "Cel" || f[0].GetKind() != devicev1.Kind_KIND_FLOAT {
		t.Errorf("described as %v", f)
	}
}

func TestSparkplugRefusesHostilePayloads(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
	refused(t, p, Message{Topic: topicNBIRTH, Payload: []byte("ON"), Received: exampleReceived}, "not a Sparkplug payload")
	refused(t, p, Message{Topic: topicNBIRTH, Payload: make([]byte, MaxPayloadBytes+1), Received: exampleReceived}, "too large")
	refused(t, p, Message{Topic: topicNBIRTH, Payload: []byte(strings.Repeat("\x12\x00", maxSparkplugMetrics+1)), Received: exampleReceived}, "too many metrics")
	retained := message(t, topicNBIRTH, birthOf(0))
	retained.Retained = true
	refused(t, p, retained, "retained")
	for _, topic := range []string{"spBv1.0/g/NBIRTH/n/d", "spBv1.0/g/DBIRTH/n", "spBv1.0/g/NCMD/n", "spBv1.0/STATE/host", "spBv1.0//NBIRTH/n",
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
	p := newSparkplug(sparkplugSettings{})
	for i := range MaxGear {
		take(t, p, message(t, fmt.Sprintf("spBv1.0/g/NBIRTH/n%d", i), birthOf(0)))
	}
	refused(t, p, message(t, "spBv1.0/g/NBIRTH/more", birthOf(0)), "too much gear")
	refused(t, p, message(t, "spBv1.0/g/DBIRTH/n1/d", payloadOf(1)), "too much gear")
	take(t, p, message(t, "spBv1.0/g/NDEATH/n7", deathOf(0)))
	take(t, p, message(t, "spBv1.0/g/NBIRTH/more", birthOf(0)))

	// Aliases: births are refused when all that is remembered is over the
	// bound, and the count of bytes is honest.
	p = newSparkplug(sparkplugSettings{})
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

func TestSparkplugCommands(t *testing.T) {
	p := newSparkplug(sparkplugSettings{})
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
