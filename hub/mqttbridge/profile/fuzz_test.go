package profile

import (
	"math"
	"testing"
	"unicode/utf8"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// wantField checks what a store relies on.
func wantField(t *testing.T, f telemetry.Field) {
	t.Helper()
	if err := wire.CheckColumnName(f.Name); err != nil {
		t.Error(err)
	}
	v := f.Value
	switch v.Kind() {
	case telemetry.Double, telemetry.Float:
		if math.IsNaN(v.Float64()) || math.IsInf(v.Float64(), 0) {
			t.Errorf("field %s is %v", f.Name, v.Float64())
		}
	case telemetry.String:
		if len(v.Str()) > telemetry.MaxStringBytes || !utf8.ValidString(v.Str()) {
			t.Errorf("field %s is a text of %d bytes, UTF-8 %v", f.Name, len(v.Str()), utf8.ValidString(v.Str()))
		}
	case telemetry.Int, telemetry.Bool:
	default:
		t.Errorf("field %s has no value", f.Name)
	}
}
