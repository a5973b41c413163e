package wire_test

import (
	"errors"
	"fmt"
	"testing"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func wantCheck(t *testing.T, msg []byte, fields *wire.FieldSet, want devicev1.RejectCode) {
	t.Helper()
	_, err := wire.Check(msg, testNow, fields)
	if code := codeOf(t, err); code != want {
		t.Fatalf("code %v (%v), want %v", code, err, want)
	}
}

func TestFieldSetLimit(t *testing.T) {
	var fields wire.FieldSet
	for i := range 128 {
		// Two measurements: one name in both is two fields.
		m := oneSeries(nil, doubles(fmt.Sprintf("f%d", i), 1))
		other := oneSeries(nil, doubles(fmt.Sprintf("f%d", i), 1)).Series[0]
		other.Measurement = "other"
		m.Series = append(m.Series, other)
		wantCheck(t, marshal(m), &fields, 0)
	}
	if fields.Len() != 256 {
		t.Fatalf("%d fields, want 256", fields.Len())
	}
	wantCheck(t, named("one_more"), &fields, tooLarge)
	wantCheck(t, marshal(oneSeries(nil, doubles("f3", 1), doubles("one_more", 1))), &fields, tooLarge)
	wantCheck(t, named("f127"), &fields, 0)
	if fields.Len() != 256 {
		t.Fatalf("%d fields after a rejected one, want 256", fields.Len())
	}
}

func TestRejectedFrameLeavesFieldSet(t *testing.T) {
	var fields wire.FieldSet
	wantCheck(t, named("a"), &fields, 0)
	before := fields
	m := oneSeries(nil, doubles("b", 1), doubles("c", 1))
	m.Series = append(m.Series, oneSeries(nil, doubles("no name", 1)).Series...)
	wantCheck(t, marshal(m), &fields, badName)
	if fields.Len() != 1 {
		t.Fatalf("%d fields, want 1", fields.Len())
	}
	// The next frame must not bring in what the rejected one had.
	wantCheck(t, named("d"), &fields, 0)
	if fields.Len() != 2 || before.Len() != 1 {
		t.Fatalf("%d fields, want 2", fields.Len())
	}
}

// TestDefaultMeasurementIsOne: "" and "telemetry" are the same measurement.
func TestDefaultMeasurementIsOne(t *testing.T) {
	var fields wire.FieldSet
	wantCheck(t, measured(""), &fields, 0)
	wantCheck(t, measured("telemetry"), &fields, 0)
	if fields.Len() != 1 {
		t.Fatalf("%d fields, want 1", fields.Len())
	}
}

func TestNameChecks(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "_x": true, "": false, "time": false, "device": false, "a-b": false} {
		if err := wire.CheckColumnName(name); (err == nil) != want {
			t.Errorf("column %q: %v", name, err)
		}
	}
	for name, want := range map[string]bool{"a": true, "": true, "time": true, "a-b": false} {
		if err := wire.CheckMeasurementName(name); (err == nil) != want {
			t.Errorf("measurement %q: %v", name, err)
		}
	}
	var r *wire.Rejection
	if errors.As(wire.CheckColumnName("time"), &r) {
		t.Error("only Check makes a Rejection")
	}
}
