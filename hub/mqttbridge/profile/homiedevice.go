package profile

import (
	"cmp"
	"slices"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// homieDevice is what a device told of itself.
type homieDevice struct {
	v5         bool   // its topics are those of the convention 5
	version    string // $homie
	ready      bool   // has been
	properties map[string]*homieProperty
	fields     map[string]*homieProperty // nil value: two properties make the name
	arrays     map[string]elements       // nodes with $array, of the convention 3
	changed    bool                      // since it was described
	described  time.Time                 // when its description was told last
	memory     int
}

// homieProperty is one property, "node/property".
type homieProperty struct {
	key       string
	field     string
	name      string
	datatype  string
	unit      string
	format    string
	settable  bool
	momentary bool // $retained is false
	// The property of the node of which this is an element's; nil: none.
	like *homieProperty
}

func (p *homieProperty) size() int {
	return 400 + 2*len(p.key) + len(p.field) + len(p.name) + len(p.unit) + len(p.format)
}

func (p *homie) device(t homieTopic) (*homieDevice, error) {
	if d := p.devices[t.device]; d != nil {
		if d.v5 != t.v5 {
			return nil, Refuse("two conventions", "%s is there as a device of the convention 5 and of an older one", t.device)
		}
		return d, nil
	}
	if len(p.devices) >= MaxGear {
		return nil, Refuse("too much gear", "over %d devices", MaxGear)
	}
	d := &homieDevice{v5: t.v5, properties: map[string]*homieProperty{}, fields: map[string]*homieProperty{}, arrays: map[string]elements{}}
	p.devices[t.device] = d
	return d, nil
}

// property finds a property, or begins to remember it.
func (p *homie) property(d *homieDevice, node, id string) (*homieProperty, error) {
	key := node + "/" + id
	if known := d.properties[key]; known != nil {
		return known, nil
	}
	if len(d.properties) >= maxHomieProperties {
		return nil, Refuse("too many properties", "over %d of one device", maxHomieProperties)
	}
	made := &homieProperty{key: key, field: FieldName(node, id)}
	if node == "" || id == "" || len(key) > 2*MaxGearBytes || checkText(key) != nil {
		return nil, Refuse("bad property", "%s", quoted(key))
	}
	if err := p.grow(d, made.size()); err != nil {
		return nil, err
	}
	d.properties[key] = made
	if _, taken := d.fields[made.field]; taken {
		d.fields[made.field] = nil
	} else {
		d.fields[made.field] = made
	}
	d.changed = true
	return made, nil
}

// grow counts bytes that are remembered.
func (p *homie) grow(d *homieDevice, n int) error {
	if n > 0 && p.memory+n > maxHomieMemory {
		return Refuse("too many properties", "those of all devices take over %d MiB", maxHomieMemory>>20)
	}
	p.memory += n
	d.memory += n
	return nil
}

// propertyAttribute is node/property/$attribute of the conventions 3 and 4.
func (p *homie) propertyAttribute(t homieTopic, m Message, report *Report) error {
	d, err := p.device(t)
	if err != nil {
		return err
	}
	property, err := p.property(d, t.levels[0], t.levels[1])
	if err != nil {
		return err
	}
	changed := *property
	text := string(m.Payload)
	switch t.levels[2] {
	case "$name":
		changed.name = clean(text, maxTextBytes)
	case "$datatype":
		changed.datatype = clean(text, 32)
	case "$unit":
		changed.unit = clean(text, maxUnitBytes)
	case "$format":
		if len(text) > maxHomieFormat {
			return Refuse("too large", "$format of %d bytes, the limit is %d", len(text), maxHomieFormat)
		}
		changed.format = clean(text, maxHomieFormat)
	case "$settable":
		changed.settable = text == "true"
	case "$retained":
		changed.momentary = text == "false"
	default:
		return nil
	}
	if changed == *property {
		return nil
	}
	if err := p.grow(d, changed.size()-property.size()); err != nil {
		return err
	}
	*property = changed
	d.changed = true
	for _, element := range d.properties {
		if element.like == property {
			if err := p.resemble(d, element); err != nil {
				return err
			}
		}
	}
	p.tell(d, m, report)
	return nil
}

// homie5 is the $description of the convention 5, in what matters here.
type homie5 struct {
	Name  string `json:"name"`
	Nodes map[string]struct {
		Properties map[string]struct {
			Name     string `json:"name"`
			Datatype string `json:"datatype"`
			Unit     string `json:"unit"`
			Format   string `json:"format"`
			Settable bool   `json:"settable"`
			Retained *bool  `json:"retained"`
		} `json:"properties"`
	} `json:"nodes"`
}

// describe5 takes all properties from a $description.
func (p *homie) describe5(t homieTopic, m Message, report *Report) error {
	if !t.v5 {
		return nil
	}
	if len(m.Payload) == 0 {
		return nil // the device is being removed; $state says so too
	}
	var described homie5
	if err := DecodeJSON(m.Payload, &described); err != nil {
		return err
	}
	old := p.devices[t.device]
	if old != nil {
		if !old.v5 {
			_, err := p.device(t)
			return err
		}
		p.memory -= old.memory
		delete(p.devices, t.device)
	}
	if err := p.take5(t, described); err != nil {
		if made := p.devices[t.device]; made != nil {
			p.memory -= made.memory
			delete(p.devices, t.device)
		}
		if old != nil {
			p.memory += old.memory
			p.devices[t.device] = old
		}
		return err
	}
	if d := p.devices[t.device]; old != nil && d != nil {
		d.ready = old.ready
		p.tell(d, m, report)
	}
	return nil
}

func (p *homie) take5(t homieTopic, described homie5) error {
	d, err := p.device(t)
	if err != nil {
		return err
	}
	for node, of := range described.Nodes {
		for id, from := range of.Properties {
			if len(from.Format) > maxHomieFormat {
				return Refuse("too large", "format of %d bytes, the limit is %d", len(from.Format), maxHomieFormat)
			}
			property, err := p.property(d, node, id)
			if err != nil {
				return err
			}
			size := property.size()
			property.name, property.datatype = clean(from.Name, maxTextBytes), clean(from.Datatype, 32)
			property.unit, property.format = clean(from.Unit, maxUnitBytes), from.Format
			property.settable, property.momentary = from.Settable, from.Retained != nil && !*from.Retained
			if err := p.grow(d, property.size()-size); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell of a device what has come after its $state: what is retained comes in
// any order.
func (p *homie) tell(d *homieDevice, m Message, report *Report) {
	if d.ready {
		report.Describe = p.description(d, m.Received)
	}
}

// description of the device where it has changed or is due; else nil. One that
// says nothing is none.
func (p *homie) description(d *homieDevice, now time.Time) *devicev1.Describe {
	if !due(&d.described, now) && !d.changed || !d.says() {
		return nil
	}
	p.expect(d)
	d.changed = false
	of := describing(p.measure)
	properties := make([]*homieProperty, 0, len(d.properties))
	settable := false
	for _, known := range d.properties {
		properties = append(properties, known)
		settable = settable || known.settable
	}
	slices.SortFunc(properties, func(a, b *homieProperty) int { return cmp.Compare(a.key, b.key) })
	if settable {
		of.command("set", "set a property; it has succeeded when the device reports the value",
			argument("node", telemetry.String, true, ""), argument("property", telemetry.String, true, ""),
			argument("value", anyKind, true, ""))
	}
	for _, known := range properties {
		if kind := homieKindOf(known.datatype); kind != 0 && d.fields[known.field] == known {
			of.field(known.field, known.unit, p.integers.kind(kind), cmp.Or(known.name, known.key))
		}
	}
	return of.done()
}

// says reports whether there is a field to describe.
func (d *homieDevice) says() bool {
	for _, known := range d.properties {
		if homieKindOf(known.datatype) != 0 {
			return true
		}
	}
	return false
}
