package profile

import (
	"fmt"
	"math"
	"strings"
	"testing"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

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
		p := testSparkplug()
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
	p := testSparkplug()
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
	p := testSparkplug()
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
