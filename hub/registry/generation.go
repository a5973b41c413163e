package registry

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// maxOlder bounds Device.Older. A rotation beyond it ends the oldest
// generation before its time.
const maxOlder = 8

// MaxGrace bounds how long a superseded credential may go on working.
const MaxGrace = 90 * 24 * time.Hour

// Accepts reports whether a credential of that generation may connect at now.
func (d *Device) Accepts(generation uint32, now time.Time) bool {
	_, ok := d.KeyOf(generation, now)
	return ok
}

// KeyOf is the id of the master key that the secret of a generation comes
// from; false when that generation does not work at now.
func (d *Device) KeyOf(generation uint32, now time.Time) (string, bool) {
	switch {
	case generation == 0:
		return "", false
	case generation == d.Generation:
		return d.KeyID, true
	case d.Retiring == nil:
		return "", false
	case generation == d.Retiring.Generation:
		return d.Retiring.KeyID, now.Before(d.Retiring.Until)
	}
	for _, r := range d.Older {
		if generation == r.Generation {
			return r.KeyID, now.Before(r.Until)
		}
	}
	return "", false
}

// Rotate makes the next generation, with the master key keyID. The present
// one, and older ones that still work, go on until their grace is over; with
// a grace of 0 all of them end now. It is for the function of Update.
func (d *Device) Rotate(keyID string, grace time.Duration, now time.Time) error {
	if grace < 0 || grace > MaxGrace {
		return fmt.Errorf("%w: a period of grace is 0 to %v, not %v", ErrInvalid, MaxGrace, grace)
	}
	if d.Generation == math.MaxUint32 {
		return fmt.Errorf("%w: device %s has had every generation there is", ErrInvalid, d.ID)
	}
	working := d.working(now)
	superseded := Retiring{Generation: d.Generation, Until: now.Add(grace).UTC(), KeyID: d.KeyID}
	d.Generation++
	d.KeyID = keyID
	d.Retiring, d.Older = nil, nil
	if grace == 0 {
		return nil
	}
	d.Retiring = &superseded
	d.Older = working[:min(len(working), maxOlder)]
	return nil
}

// working is the retiring generations that still work at now, newest first.
func (d *Device) working(now time.Time) []Retiring {
	var out []Retiring
	if d.Retiring != nil && now.Before(d.Retiring.Until) {
		out = append(out, *d.Retiring)
	}
	for _, r := range d.Older {
		if now.Before(r.Until) {
			out = append(out, r)
		}
	}
	return out
}

// Proved ends the generations before one that the device has proved. It
// reports whether that changed anything. It is for the function of Update.
func (d *Device) Proved(generation uint32) bool {
	before := len(d.Older)
	d.Older = slices.DeleteFunc(d.Older, func(r Retiring) bool { return r.Generation < generation })
	if d.Retiring != nil && d.Retiring.Generation < generation {
		d.Retiring, d.Older = nil, nil
		return true
	}
	return len(d.Older) != before
}

// Clone is a deep copy, for a caller that changes it. The bytes of Describe
// are shared: replace them, never write into them.
func (d *Device) Clone() *Device {
	c := *d
	c.Labels = maps.Clone(d.Labels)
	c.Older = slices.Clone(d.Older)
	if d.Retiring != nil {
		r := *d.Retiring
		c.Retiring = &r
	}
	if d.Gear != nil {
		g := *d.Gear
		c.Gear = &g
	}
	return &c
}
