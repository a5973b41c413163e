package mqttbridge

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// foundGear is what the messages of one piece of gear have told.
type foundGear struct {
	name     string
	id       string // that it would get
	fields   map[fieldKey]*devicev1.FieldDescription
	sent     map[fieldKey]bool // fields of which a value came; the others are described
	commands []string
	status   string
	problem  string
	mixed    map[fieldKey]string // fields of several types, in words
	unborn   bool                // of Sparkplug: its birth was not heard
	known    bool                // it has a device already
}

type fieldKey struct{ measurement, name string }

// of finds or makes gear; nil where there is too much or the name is none.
func (d *draft) of(name string) *foundGear {
	g := d.gear[name]
	if g != nil || len(d.gear) >= maxSampleGear || checkGearName(name) != nil {
		return g
	}
	if d.gear == nil {
		d.gear = make(map[string]*foundGear)
	}
	g = &foundGear{name: name, fields: make(map[fieldKey]*devicev1.FieldDescription), sent: make(map[fieldKey]bool)}
	d.gear[name] = g
	return g
}

// complain notes a refusal that says which gear it is about.
func (d *draft) complain(err error) {
	var refusal *profile.Refusal
	if errors.As(err, &refusal) && refusal.Gear != "" {
		if g := d.gear[refusal.Gear]; g != nil {
			g.problem = refusal.Error()
		}
	}
}

// take adds what a report says.
func (d *draft) take(r *profile.Report) {
	g := d.of(r.Gear)
	if g == nil {
		return
	}
	switch r.Status {
	case profile.Online:
		g.status = "online"
	case profile.Offline:
		g.status = "offline"
	}
	switch early := d.Kind == kindSparkplug && len(g.fields) == 0 && unborn(r); {
	case early:
		g.unborn = true
	case r.Status == profile.Online && g.unborn:
		g.unborn, g.problem = false, r.Problem
	case r.Problem != "":
		g.problem = r.Problem
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		for k := range row.Fields {
			g.measured(row.Measurement, &row.Fields[k])
		}
	}
	if r.Describe != nil {
		g.described(r.Describe)
	}
}

// measured adds a field that has a value.
func (g *foundGear) measured(measurement string, f *telemetry.Field) {
	key := fieldKey{measurementName(measurement), f.Name}
	kind := profile.KindNumber(f.Value.Kind())
	known := g.fields[key]
	if known != nil || len(g.fields) < telemetry.MaxFields {
		g.sent[key] = true
	}
	switch {
	case known == nil && len(g.fields) >= telemetry.MaxFields:
		g.problem = fmt.Sprintf("it has over %d fields: others would be refused", telemetry.MaxFields)
	case known == nil:
		g.fields[key] = &devicev1.FieldDescription{Name: f.Name, Measurement: measurement, Kind: kind}
	case g.mixed[key] != "":
		g.mix(key, kind)
	case known.Kind == devicev1.Kind_KIND_UNSPECIFIED:
		known.Kind = kind
	case known.Kind != kind:
		g.mix(key, known.Kind, kind)
	}
}

// mix notes that values of a field are of several types.
func (g *foundGear) mix(key fieldKey, kinds ...devicev1.Kind) {
	if g.mixed == nil {
		g.mixed = make(map[fieldKey]string)
	}
	words := g.mixed[key]
	for _, kind := range kinds {
		word := strings.ToLower(strings.TrimPrefix(kind.String(), "KIND_"))
		switch {
		case words == "":
			words = "mixed: " + word
		case !strings.Contains(words, word):
			words += ", " + word
		}
	}
	g.mixed[key] = words
	g.fields[key].Kind = devicev1.Kind_KIND_UNSPECIFIED
}

// tellUnborn says of Sparkplug gear without a birth why nothing is known of
// it.
func (s *study) tellUnborn() {
	for _, d := range s.drafts {
		for _, g := range d.gear {
			if g.unborn && s.births != nil {
				g.problem = s.births.lacking(g.name)
			}
		}
	}
}

// described adds what the gear says of its fields and commands.
func (g *foundGear) described(d *devicev1.Describe) {
	for _, f := range d.GetFields() {
		key := fieldKey{measurementName(f.GetMeasurement()), f.GetName()}
		known := g.fields[key]
		if known == nil {
			if len(g.fields) >= telemetry.MaxFields {
				continue
			}
			known = &devicev1.FieldDescription{Name: f.GetName(), Measurement: f.GetMeasurement(), Kind: f.GetKind()}
			g.fields[key] = known
		}
		known.Unit, known.Description = f.GetUnit(), f.GetDescription()
	}
	g.commands = g.commands[:0]
	for _, c := range d.GetCommands() {
		g.commands = append(g.commands, c.GetName())
	}
}

func measurementName(m string) string { return cmp.Or(m, telemetry.DefaultMeasurement) }

// fieldList is the fields in the order of measurements and names.
func (g *foundGear) fieldList() []*devicev1.FieldDescription {
	list := slices.Collect(maps.Values(g.fields))
	slices.SortFunc(list, func(a, b *devicev1.FieldDescription) int {
		return cmp.Or(cmp.Compare(measurementName(a.Measurement), measurementName(b.Measurement)), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// sorted is the gear of a profile by name.
func (d *draft) sorted() []*foundGear {
	list := slices.Collect(maps.Values(d.gear))
	slices.SortFunc(list, func(a, b *foundGear) int { return cmp.Compare(a.name, b.name) })
	return list
}

// identify gives every piece of gear the id that it has or would get: no two
// get the same, and none that the hub has for something else.
func (s *study) identify() {
	used := make(map[string]bool)
	for _, d := range s.drafts {
		for _, configured := range d.Devices {
			used[configured.ID] = true
		}
	}
	for _, d := range s.drafts {
		for _, g := range d.sorted() {
			self := registry.Gear{Broker: s.broker.Name, Profile: d.Name, Name: g.name}
			if i := slices.IndexFunc(d.Devices, func(c DeviceConfig) bool { return c.Gear == g.name }); i >= 0 {
				g.id, g.known = d.Devices[i].ID, true
				continue
			}
			if g.id = s.gear(self); g.id != "" {
				used[g.id] = true
				continue
			}
			g.id = deviceID(d.IDPrefix, g.name)
			for n := 2; used[g.id] || s.isOther(g.id, self); n++ {
				end := fmt.Sprintf("-%d", n)
				base := deviceID(d.IDPrefix, g.name)
				g.id = base[:min(len(base), device.MaxIDBytes-len(end))] + end
			}
			used[g.id] = true
		}
	}
}

// isOther reports whether the hub has a device of that id that is not the
// gear.
func (s *study) isOther(id string, gear registry.Gear) bool {
	known, ok := s.device(id)
	return ok && (known.Gear == nil || *known.Gear != gear)
}

// progress studies what was seen and shows the gear.
func (s *study) progress(all seen) SampleProgress {
	s.look(all)
	out := SampleProgress{Messages: all.messages}
	for _, d := range s.drafts {
		for _, g := range d.sorted() {
			if len(out.Gear) == maxSampleGear {
				return out
			}
			out.Gear = append(out.Gear, SampledGear{
				Kind: d.Kind, Profile: d.Name, Name: g.name, DeviceID: g.id,
				Fields: g.fieldList(), Commands: slices.Clone(g.commands), Status: g.status, Problem: g.problem,
			})
		}
	}
	return out
}
