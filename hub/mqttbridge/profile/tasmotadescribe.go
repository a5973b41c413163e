package profile

import (
	"slices"
	"strings"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// describeEvery is how often gear is described though nothing has changed: it
// may have been allowed since.
const describeEvery = 5 * time.Minute

// tasmotaDescriptions remember which fields each piece of gear has. Names are
// kept once for all of it, so that 10,000 pieces cost a few megabytes.
type tasmotaDescriptions struct {
	names map[string]uint16
	known []tasmotaKnown
	gear  map[string]*tasmotaGear
}

type tasmotaKnown struct {
	name, unit string
	kind       telemetry.Kind
}

type tasmotaGear struct {
	fields  []uint16 // sorted
	units   map[string]string
	changed bool
	at      time.Time // of the last description; zero: it is due
}

// of finds the gear. Beyond MaxGear another one is forgotten: all of it is
// learned again from the next messages.
func (d *tasmotaDescriptions) of(gear string) *tasmotaGear {
	g := d.gear[gear]
	if g == nil {
		if d.gear == nil {
			d.gear, d.names = map[string]*tasmotaGear{}, map[string]uint16{}
		}
		if len(d.gear) >= MaxGear {
			for other := range d.gear {
				delete(d.gear, other)
				break
			}
		}
		g = &tasmotaGear{}
		d.gear[strings.Clone(gear)] = g
	}
	return g
}

// see a field of the gear.
func (d *tasmotaDescriptions) see(gear, name, unit string, kind telemetry.Kind) {
	g := d.of(gear)
	n, ok := d.names[name]
	if !ok {
		if len(d.known) == maxPaths {
			return
		}
		n = uint16(len(d.known))
		d.names[name] = n
		d.known = append(d.known, tasmotaKnown{name, unit, kind})
	}
	if at, found := slices.BinarySearch(g.fields, n); !found && len(g.fields) < telemetry.MaxFields {
		g.fields, g.changed = slices.Insert(g.fields, at, n), true
	}
}

// unit is what the gear says of its TempUnit, PressureUnit or SpeedUnit.
func (d *tasmotaDescriptions) unit(gear, which, unit string) {
	g := d.of(gear)
	if len(unit) > maxUnitBytes || g.units[which] == unit {
		return
	}
	if g.units == nil {
		g.units = map[string]string{}
	}
	g.units[which], g.changed = unit, true
}

// again has everything described anew.
func (d *tasmotaDescriptions) again() {
	for _, g := range d.gear {
		g.at = time.Time{}
	}
}

// describe the gear of a report where that is due.
func (p *tasmota) describe(r Report, now time.Time) *devicev1.Describe {
	g := p.described.gear[r.Gear]
	if g == nil || !g.changed && now.Sub(g.at) < describeEvery && now.Sub(g.at) >= 0 {
		return nil
	}
	g.changed, g.at = false, now
	d := describing(p.measure)
	has := map[string]bool{}
	for _, n := range g.fields {
		f := p.described.known[n]
		unit := f.unit
		switch unit {
		case "TempUnit":
			if unit = g.units[unit]; unit == "C" || unit == "F" {
				unit = "°" + unit
			}
		case "PressureUnit":
			if unit = g.units[unit]; unit == "mmHg" {
				unit = "mm[Hg]"
			}
		}
		d.field(f.name, unit, f.kind, "")
		has[strings.TrimRight(f.name, "0123456789")] = true
	}
	for _, c := range tasmotaCommands {
		if c.shownBy == "" || has[c.shownBy] {
			c.describe(&d)
		}
	}
	return d.done()
}
