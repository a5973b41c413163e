package profile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
)

func show(v telemetry.Value) string {
	switch v.Kind() {
	case telemetry.Double:
		return fmt.Sprintf("%v", v.Float64())
	case telemetry.Int:
		return fmt.Sprintf("%di", v.Int64())
	case telemetry.Bool:
		return fmt.Sprintf("%v", v.Bool())
	default:
		return fmt.Sprintf("%q", v.Str())
	}
}

func showLeaves(leaves []Leaf) string {
	var parts []string
	for _, l := range leaves {
		parts = append(parts, fmt.Sprintf("%s>%s=%s", l.Path, l.Name, show(l.Value)))
	}
	return strings.Join(parts, " ")
}

func TestFlatten(t *testing.T) {
	var f Flattener
	for _, tc := range []struct{ payload, want, problem string }{
		{`{"a":21,"b":21.5,"c":true,"d":"x","e":null}`, `a>a=21 b>b=21.5 c>c=true d>d="x"`, ""},
		{` {"ENERGY" : { "Power" : [ 1 , 2.5e1 ] } } `, `ENERGY.Power.0>ENERGY_Power_0=1 ENERGY.Power.1>ENERGY_Power_1=25`, ""},
		{`{"switch:0":{"tC":-0}}`, `switch:0.tC>switch_0_tC=-0`, ""},
		{`{"a.b":1,"a":{"c":2}}`, `a\.b>a_b=1 a.c>a_c=2`, ""},
		{`{"a.b":1,"a":{"b":2}}`, `a\.b>a_b=1`, "field a.b: another one makes the name a_b too and is kept"},
		{`{"a":1,"a":"x","b":2}`, `a>a=1 b>b=2`, "field a is there twice: the first is kept"},
		{`{"time":1,"device":2,"_time":3,"0x":4,"ä":5}`, `time>time_=1 device>device_=2 _time>_time_=3 0x>_0x=4 ä>_=5`, ""},
		{`{"t":nan,"h":40,"i":-Infinity,"n":NaN}`, `h>h=40`, "field \"t\": nan is no number (and 2 more)"},
		{`{"x":1e999,"y":1e-999}`, `y>y=0`, `field "x": "1e999" is out of range`},
		{`{"s":"\u00e4\n\ud800"}`, `s>s="ä\n` + "\ufffd" + `"`, ""},
		{`{"\u0061":1}`, `a>a=1`, ""},
		{`21.5`, `>value=21.5`, ""},
		{`"on"`, `>value="on"`, ""},
		{`[]`, ``, ""},
		{`{}`, ``, ""},
	} {
		leaves, problem, err := f.Flatten([]byte(tc.payload))
		if err != nil || showLeaves(leaves) != tc.want || problem != tc.problem {
			t.Errorf("%s: %s, problem %q, error %v; want %s, problem %q", tc.payload, showLeaves(leaves), problem, err, tc.want, tc.problem)
		}
	}
}

func TestFlattenRefuses(t *testing.T) {
	var f Flattener
	many := &strings.Builder{}
	for i := range telemetry.MaxFields + 1 {
		fmt.Fprintf(many, `,"f%d":1`, i)
	}
	for reason, payloads := range map[string][]string{
		"not JSON": {"", " ", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `{a:1}`, `{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`,
			`{"a":"`, `{"a":"\x"}`, `{"a":"\u12"}`, "{\"a\":\"\n\"}", `[1,]`, `[1 2]`, `{"a":1} x`, `{"a":1}{}`, `tru`, `nope`, `{"a":-}`, `{"a":--1}`, "\x00", `'a'`},
		"not UTF-8":       {"{\"a\":\"\xff\"}", "\xc3"},
		"too deep":        {strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), strings.Repeat(`{"a":`, 100_00), strings.Repeat("[", MaxPayloadBytes)},
		"too large":       {`"` + strings.Repeat("x", MaxPayloadBytes-1) + `"`},
		"too many fields": {"{" + many.String()[1:] + "}"},
	} {
		for _, payload := range payloads {
			leaves, _, err := f.Flatten([]byte(payload))
			if ReasonOf(err) != reason || len(leaves) != 0 {
				t.Errorf("%.60q: %d leaves, error %v; want reason %q", payload, len(leaves), err, reason)
			}
			if err := CheckJSON([]byte(payload)); reason != "too many fields" && ReasonOf(err) != reason {
				t.Errorf("CheckJSON of %.60q: %v; want reason %q", payload, err, reason)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
	}
}

func TestFlattenBounds(t *testing.T) {
	var f Flattener
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	leaves, problem, err := f.Flatten([]byte(`{"a":` + list + `,"b":[[` + list + `]],"c":7}`))
	if err != nil || len(leaves) != 2*MaxArray+1 || leaves[len(leaves)-1].Path != "c" || problem != `array "a" has over 64 elements: the first are kept (and 1 more)` {
		t.Errorf("%d leaves, problem %q, error %v", len(leaves), problem, err)
	}
	long := strings.Repeat("x", telemetry.MaxStringBytes)
	leaves, problem, err = f.Flatten([]byte(`{"fits":"` + long + `","over":"` + long + `y","escaped":"` + strings.Repeat(`\u0061`, telemetry.MaxStringBytes) + `"}`))
	if err != nil || len(leaves) != 2 || leaves[1].Name != "escaped" || problem != `field "over": a text over 4096 bytes` {
		t.Errorf("%d leaves, problem %q, error %v", len(leaves), problem, err)
	}
	leaves, problem, err = f.Flatten([]byte(`{"` + strings.Repeat("k", 100_000) + `":{"a":{"b":1}},"c":2}`))
	if err != nil || len(leaves) != 1 || !strings.Contains(problem, "its path is over 512 bytes") {
		t.Errorf("%d leaves, problem %q, error %v", len(leaves), problem, err)
	}
	for i := range 3 * maxPaths {
		if _, _, err := f.Flatten(fmt.Appendf(nil, `{"k%d":1}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.paths) > maxPaths+telemetry.MaxFields {
		t.Errorf("%d paths are remembered", len(f.paths))
	}
}

func TestFlattenKnownPathsWithoutAllocation(t *testing.T) {
	var f Flattener
	payload := []byte(`{"Time":12,"ENERGY":{"Total":3.2,"Power":160,"Voltage":230.5,"Current":0.7,"on":true},"x":[1,2,3]}`)
	allocs := testing.AllocsPerRun(100, func() {
		if _, _, err := f.Flatten(payload); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestLeafInt(t *testing.T) {
	for text, want := range map[string]string{
		"21": "21", "21.0": "21", "2.1e1": "21", "-3": "-3", "21.5": "no", "9223372036854775807": "9223372036854775807",
		"9223372036854775808": "no", "1e300": "no",
	} {
		var f Flattener
		leaves, _, err := f.Flatten([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := "no"
		if v, ok := leaves[0].Int(); ok {
			got = fmt.Sprint(v)
		}
		if got != want {
			t.Errorf("%s is the integer %s; want %s", text, got, want)
		}
	}
}

func BenchmarkFlatten(b *testing.B) {
	var f Flattener
	payload := []byte(`{"temperature":21.52,"humidity":44.7,"pressure":1013.25,"voltage":229.8,"current":0.731,"power":160.4,"energy":3.185,"rssi":-61,"uptime":86400,"on":true}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := f.Flatten(payload); err != nil {
			b.Fatal(err)
		}
	}
}

// wantFlat checks Flatten against encoding/json: it takes the same documents
// but for its limits and for the words that gear writes instead of numbers.
func wantFlat(t *testing.T, payload []byte) {
	t.Helper()
	var flat Flattener
	leaves, _, err := flat.Flatten(payload)
	if err == nil && !json.Valid(payload) && !strings.ContainsAny(string(payload), "nNiI") {
		t.Errorf("%q is no JSON, but taken", payload)
	}
	if ReasonOf(err) == "not JSON" && json.Valid(payload) {
		t.Errorf("%q is JSON, but refused: %v", payload, err)
	}
	if err == nil {
		wantLeaves(t, leaves)
	}
}

func wantLeaves(t *testing.T, leaves []Leaf) {
	names := map[string]bool{}
	for _, l := range leaves {
		if names[l.Name] {
			t.Errorf("two leaves are named %s", l.Name)
		}
		names[l.Name] = true
		wantField(t, telemetry.Field{Name: l.Name, Value: l.Value})
	}
}
