package profile

import (
	"slices"
	"strings"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// shellyUnits are the units of fields from JSON documents, by their last words.
var shellyUnits = []struct{ suffix, unit string }{
	{"_apower", "W"}, {"_act_power", "W"}, {"_aprt_power", "V.A"}, {"_voltage", "V"}, {"_current", "A"}, {"_freq", "Hz"},
	{"_aenergy_total", "W.h"}, {"_ret_aenergy_total", "W.h"}, {"_total_act_energy", "W.h"}, {"_total_act_ret_energy", "W.h"},
	{"_tC", "Cel"}, {"_tF", "[degF]"}, {"_rh", "%"}, {"_current_pos", "%"}, {"_target_pos", "%"}, {"_brightness", "%"},
	{"_percent", "%"}, {"_lux", "lx"}, {"_V", "V"}, {"wifi_rssi", "dB[mW]"}, {"uptime", "s"}, {"ram_free", "By"}, {"_fs_free", "By"},
	{"_power", "W"}, {"_gain", "%"}, {"_temp", "K"}, {"_hum", "%"}, {"_transition", "ms"}, {"_timer_duration", "s"}, {"_timer_remaining", "s"}, // of generation 1
}

// shellyFields are all fields of all gear, kept once: 10,000 devices of a few
// kinds have few names.
type shellyFields struct {
	numbers map[shellyField]uint16
	known   []shellyField
}

type shellyField struct {
	name, unit string
	kind       telemetry.Kind
}

// see a field of a device. Beyond the bounds it is not described.
func (p *shelly) see(d *shellyDevice, name, unit string, kind telemetry.Kind) {
	f := shellyField{name, unit, kind}
	n, ok := p.fields.numbers[f]
	if !ok {
		if len(p.fields.known) == maxPaths {
			return
		}
		if p.fields.numbers == nil {
			p.fields.numbers = map[shellyField]uint16{}
		}
		n = uint16(len(p.fields.known))
		p.fields.numbers[f] = n
		p.fields.known = append(p.fields.known, f)
	}
	if at, found := slices.BinarySearch(d.fields, n); !found && len(d.fields) < telemetry.MaxFields {
		d.fields, d.changed = slices.Insert(d.fields, at, n), true
	}
}

// describe a device, where it has a field more or it is time again.
func (p *shelly) describe(d *shellyDevice, unit string, rows []telemetry.Row, now time.Time) *devicev1.Describe {
	for _, row := range rows {
		for _, f := range row.Fields {
			of := unit
			if of == "" && f.Value.Kind() == telemetry.Double {
				of = shellyUnit(f.Name)
			}
			p.see(d, f.Name, of, f.Value.Kind())
		}
	}
	if len(rows) == 0 || !due(&d.described, now) && !d.changed {
		return nil
	}
	d.changed = false
	of := describing(p.measure)
	d.commands(&of, p.fields.known)
	for _, n := range d.fields {
		f := p.fields.known[n]
		of.field(f.name, f.unit, f.kind, "")
	}
	return of.done()
}

func shellyUnit(field string) string {
	for _, u := range shellyUnits {
		if strings.HasSuffix(field, u.suffix) {
			return u.unit
		}
	}
	return ""
}

// commands that a device takes: from generation 2 on all methods, before as
// its topics show.
func (d *shellyDevice) commands(of *description, known []shellyField) {
	channel := argument("channel", telemetry.Int, false, "from 0")
	turn := argument("turn", telemetry.String, true, "on, off or toggle")
	has := map[string]bool{}
	for _, n := range d.fields {
		kind, _, _ := strings.Cut(known[n].name, "_")
		has[kind] = true
	}
	if d.rpc {
		of.command("rpc", "call a method of the device, as Switch.Set with {\"id\":0,\"on\":true}",
			argument("method", telemetry.String, true, ""), argument("params", anyKind, false, "a JSON object"))
		if has["switch"] {
			of.command("relay", "switch an output", channel, turn)
		}
		return
	}
	if has["relay"] {
		of.command("relay", "switch an output", channel, turn)
	}
	state := argument("turn", telemetry.String, false, "on, off or toggle; on or off beside a brightness")
	brightness := argument("brightness", telemetry.Int, false, "0 to 100; it needs no turn")
	if has["light"] {
		of.command("light", "switch or dim a light", channel, state, brightness)
	}
	if has["white"] {
		of.command("white", "switch or dim a white channel", channel, state, brightness)
	}
	if has["color"] {
		of.command("color", "switch a coloured light", channel, turn)
	}
	if has["roller"] {
		of.command("roller", "move a roller", channel,
			argument("go", telemetry.String, true, "open, close, stop or to_pos"), argument("position", telemetry.Int, false, "0 to 100, of to_pos"))
	}
	of.command("announce", "ask the device what it is")
}
