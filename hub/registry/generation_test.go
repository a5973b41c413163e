package registry_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

func accepted(d *registry.Device, now time.Time) []uint32 {
	var out []uint32
	for g := uint32(0); g <= d.Generation+1; g++ {
		if d.Accepts(g, now) {
			out = append(out, g)
		}
	}
	return out
}

func wantAccepted(t *testing.T, when string, d *registry.Device, now time.Time, want ...uint32) {
	t.Helper()
	got := accepted(d, now)
	if len(got) != len(want) {
		t.Fatalf("%s: accepts %v, want %v", when, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: accepts %v, want %v", when, got, want)
		}
	}
}

func rotate(t *testing.T, d *registry.Device, key string, grace time.Duration, now time.Time) {
	t.Helper()
	if err := d.Rotate(key, grace, now); err != nil {
		t.Fatal(err)
	}
}

// A device may be away while its credential is rotated twice. It holds the
// first generation, or the second that it got in-band before it left; each
// keeps its own period of grace.
func TestRotateTwiceKeepsBothGraces(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &registry.Device{ID: "d", Generation: 1, KeyID: "old"}
	rotate(t, d, "new", 2*time.Hour, t0)
	wantAccepted(t, "rotated", d, t0, 1, 2)
	rotate(t, d, "new", 4*time.Hour, t0.Add(time.Hour))
	wantAccepted(t, "rotated twice", d, t0.Add(time.Hour), 1, 2, 3)
	wantAccepted(t, "the first grace over", d, t0.Add(2*time.Hour), 2, 3)
	wantAccepted(t, "both over", d, t0.Add(5*time.Hour), 3)
	for g, want := range map[uint32]string{1: "old", 2: "new", 3: "new"} {
		if key, ok := d.KeyOf(g, t0.Add(time.Hour)); !ok || key != want {
			t.Errorf("generation %d comes from key %q, %v; want %q", g, key, ok, want)
		}
	}
	if !d.Clone().Proved(2) {
		t.Error("proving generation 2 ended nothing")
	}
	d.Proved(2)
	wantAccepted(t, "generation 2 proved", d, t0.Add(time.Hour), 2, 3)
	d.Proved(3)
	wantAccepted(t, "generation 3 proved", d, t0.Add(time.Hour), 3)
	if d.Proved(3) {
		t.Error("proving again is reported as a change")
	}
}

func TestRotateWithoutGraceEndsAll(t *testing.T) {
	now := time.Now()
	d := &registry.Device{ID: "d", Generation: 1, KeyID: "k"}
	rotate(t, d, "k", time.Hour, now)
	rotate(t, d, "k", 0, now)
	wantAccepted(t, "rotated without grace", d, now, 3)
}

func TestRotateBounds(t *testing.T) {
	d := &registry.Device{ID: "d", Generation: 1, KeyID: "k"}
	for _, grace := range []time.Duration{-1, registry.MaxGrace + 1} {
		if err := d.Rotate("k", grace, time.Now()); !errors.Is(err, registry.ErrInvalid) || d.Generation != 1 {
			t.Errorf("grace %v: %v, generation %d", grace, err, d.Generation)
		}
	}
	d.Generation = math.MaxUint32
	if err := d.Rotate("k", 0, time.Now()); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("past the last generation: %v", err)
	}
	d = &registry.Device{ID: "d", Generation: 1, KeyID: "k"}
	for range 50 {
		rotate(t, d, "k", time.Hour, time.Now())
	}
	if n := len(accepted(d, time.Now())); n > 12 {
		t.Errorf("%d generations work after 50 rotations; that must be bounded", n)
	}
}

func TestRotateAndProvedAreSaved(t *testing.T) {
	r := newRegistry(t)
	create(t, r, newDevice("d"))
	if _, err := r.Rotate(testContext(t), "d", -1); err != nil {
		t.Fatal(err)
	}
	d, _ := r.Get("d")
	wantAccepted(t, "default grace", d, time.Now().Add(registry.DefaultGrace-time.Hour), 1, 2)
	wantAccepted(t, "after it", d, time.Now().Add(registry.DefaultGrace+time.Hour), 2)
	if err := r.Proved(testContext(t), "d", 2); err != nil {
		t.Fatal(err)
	}
	d, _ = r.Get("d")
	wantAccepted(t, "proved", d, time.Now(), 2)
}
