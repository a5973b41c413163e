package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// tasmotaSettings are the settings of the kind tasmota.
type tasmotaSettings struct {
	// FullTopic as the gear's own setting has it, with %prefix% and one of
	// %topic%, %hostname% and %id%; "": "%prefix%/%topic%/". '+' is any level,
	// which then is a part of the gear's name.
	FullTopic string `yaml:"full-topic"`
	// Cmnd, Stat and Tele are Prefix1 to Prefix3; "": cmnd, stat, tele.
	Cmnd string `yaml:"cmnd"`
	Stat string `yaml:"stat"`
	Tele string `yaml:"tele"`
	// Zone is the time zone of the gear's clock, as "Europe/Berlin", for gear
	// that tells its local time alone, without a zone, as it does from the
	// factory: "" has its rows carry the time of arrival.
	Zone        string `yaml:"zone"`
	Measurement string `yaml:"measurement"` // of the rows; "": tasmota
}

// tasmotaKind is gear with the firmware Tasmota (tasmota.github.io/docs/MQTT).
func tasmotaKind() Kind {
	return Kind{
		Name:    "tasmota",
		Summary: "Tasmota plugs, relays, lights and sensors",
		New: func(settings func(any) error) (Profile, error) {
			var s tasmotaSettings
			if err := settings(&s); err != nil {
				return nil, err
			}
			return newTasmota(s)
		},
		Recognise: recogniseTasmota,
	}
}

// tasmota is the profile. What it remembers of gear serves descriptions alone.
type tasmota struct {
	stat, tele *pattern
	cmnd       *pattern
	filters    []string
	zone       *time.Location // nil: a local time is not known
	measure    string

	flattener Flattener
	fields    map[tasmotaPath]tasmotaField
	described tasmotaDescriptions
}

func newTasmota(s tasmotaSettings) (Profile, error) {
	if s.FullTopic == "" {
		s.FullTopic = "%prefix%/%topic%/"
	}
	p := &tasmota{fields: map[tasmotaPath]tasmotaField{}}
	var err error
	if p.measure, err = measurementOf(s.Measurement, "tasmota"); err != nil {
		return nil, err
	}
	if s.Zone != "" {
		if p.zone, err = loadZone(s.Zone); err != nil {
			return nil, err
		}
	}
	if strings.Count(s.FullTopic, "%prefix%") != 1 {
		return nil, fmt.Errorf("full-topic: %q takes %%prefix%% once, as \"%%prefix%%/%%topic%%/\"", s.FullTopic)
	}
	prefixes := map[string]bool{}
	for _, way := range []struct {
		key, prefix, usual, end string
		to                      **pattern
	}{
		{"cmnd", s.Cmnd, "cmnd", "", &p.cmnd}, {"stat", s.Stat, "stat", "/{field}", &p.stat}, {"tele", s.Tele, "tele", "/{field}", &p.tele},
	} {
		if way.prefix == "" {
			way.prefix = way.usual
		}
		if strings.ContainsAny(way.prefix, "+#{}%\x00") || prefixes[way.prefix] {
			return nil, fmt.Errorf("%s: %q takes a word of its own", way.key, way.prefix)
		}
		prefixes[way.prefix] = true
		if *way.to, err = tasmotaPattern(s.FullTopic, way.prefix, way.end); err != nil {
			return nil, fmt.Errorf("full-topic: %w", err)
		}
	}
	p.filters = []string{p.stat.filter(), p.tele.filter()}
	return p, nil
}

func tasmotaPattern(fullTopic, prefix, end string) (*pattern, error) {
	levels := strings.Split(strings.TrimSuffix(fullTopic, "/"), "/")
	for i, l := range levels {
		if l == "+" {
			levels[i] = "{gear}"
		}
	}
	text := strings.NewReplacer("%prefix%", prefix, "%topic%", "{gear}", "%hostname%", "{gear}", "%id%", "{gear}").Replace(strings.Join(levels, "/"))
	p, err := newPattern(text+end, "gear", "field")
	if err == nil && p.gears == 0 {
		err = fmt.Errorf("%q takes one of %%topic%%, %%hostname%% and %%id%%", fullTopic)
	}
	return p, err
}

// Filters are those of the prefixes stat and tele.
func (p *tasmota) Filters() []string { return p.filters }

// Connected has all gear described anew. It asks for nothing: a device tells
// its state with the next TelePeriod, and a STATUS 10 to all would be a storm.
func (p *tasmota) Connected() []Publish {
	p.described.again()
	return nil
}

// Decode a message of the prefixes stat and tele.
func (p *tasmota) Decode(m Message, reports []Report) ([]Report, error) {
	c, tele := p.tele.match(m.Topic)
	if !tele {
		var stat bool
		if c, stat = p.stat.match(m.Topic); !stat {
			return reports, nil
		}
	}
	if len(m.Payload) == 0 {
		return reports, nil // a retained message that was taken away
	}
	if err := checkGear(c.gear); err != nil {
		return reports, err
	}
	if len(m.Payload) > MaxPayloadBytes {
		return reports, refusedOf(c.gear, Refuse("too large", "%d bytes, the limit is %d", len(m.Payload), MaxPayloadBytes))
	}
	r := Report{Gear: c.gear, NotAlive: m.Retained}
	if tele && c.field == "LWT" {
		return p.lastWill(r, m, reports)
	}
	var err error
	switch {
	case m.Payload[0] == '{':
		err = p.document(&r, m, tasmotaClassOf(c.field, tele))
	case tasmotaPower.MatchString(c.field), tele && tasmotaSwitchWord(m.Payload):
		p.word(&r, m, c.field)
	}
	if err != nil {
		return reports, refusedOf(c.gear, err)
	}
	r.Describe = p.describe(r, m.Received)
	return append(reports, r), nil
}

// lastWill is Online, or Offline by the broker on behalf of gear that is gone.
func (p *tasmota) lastWill(r Report, m Message, reports []Report) ([]Report, error) {
	switch string(m.Payload) {
	case "Online":
		r.Status = Online
	case "Offline":
		r.Status, r.Reason, r.NotAlive = Offline, "last will", true
	default:
		return reports, refusedOf(r.Gear, Refuse("unknown availability", "LWT %s", quoted(m.Payload)))
	}
	return append(reports, r), nil
}

var tasmotaPower = regexp.MustCompile(`^POWER[0-9]{0,2}$`)

func tasmotaSwitchWord(payload []byte) bool {
	return string(payload) == "ON" || string(payload) == "OFF"
}

// word is a message as "stat/plug/POWER ON" or "tele/plug/POWER_LOW ON".
func (p *tasmota) word(r *Report, m Message, field string) {
	switch {
	case !tasmotaSwitchWord(m.Payload):
		r.Problem = cut(fmt.Sprintf("%s: %s is neither ON nor OFF", field, quoted(m.Payload)))
	case !m.Retained:
		r.Rows = []telemetry.Row{{Measurement: p.measure, Fields: []telemetry.Field{
			{Name: FieldName(field), Value: telemetry.BoolValue(string(m.Payload) == "ON")},
		}}}
		p.described.see(r.Gear, r.Rows[0].Fields[0].Name, "", telemetry.Bool)
	}
}

// document is a message in JSON.
func (p *tasmota) document(r *Report, m Message, class tasmotaClass) error {
	leaves, problem, err := p.flattener.Flatten(m.Payload)
	if err != nil {
		return err
	}
	row := telemetry.Row{Measurement: p.measure}
	var clock tasmotaClock
	var trouble troubles
	if problem != "" {
		trouble.add(problem)
	}
	for _, l := range leaves {
		f := p.field(class, l)
		switch f.role {
		case tasmotaReading:
			if row.Fields == nil {
				row.Fields = make([]telemetry.Field, 0, len(leaves))
			}
			p.reading(r.Gear, &row, f, l, &trouble)
		case tasmotaTime:
			clock.time = l
		case tasmotaEpoch:
			clock.epoch = l
		case tasmotaUnit:
			p.described.unit(r.Gear, f.name, l.text())
		case tasmotaVersion:
			r.Firmware = clean("Tasmota "+l.text(), 64)
		}
	}
	if len(row.Fields) > 0 {
		if row.Time, err = p.timeOf(clock, m); err != nil {
			trouble.add(err.Error())
		}
		r.Seconds = row.Time != 0 && row.Time%int64(time.Second) == 0
		if !m.Retained || row.Time != 0 {
			r.Rows = []telemetry.Row{row}
		}
	}
	r.Problem = trouble.String()
	return nil
}

func (p *tasmota) reading(gear string, row *telemetry.Row, f tasmotaField, l Leaf, trouble *troubles) {
	value := l.Value
	if f.code {
		value = telemetry.StringValue(l.text())
	}
	if f.power {
		switch text := l.text(); text {
		case "ON", "OFF":
			value = telemetry.BoolValue(text == "ON")
		case "1", "0": // older firmware, in some messages
			value = telemetry.BoolValue(text == "1")
		default:
			trouble.add(fmt.Sprintf("%s: %s is neither ON nor OFF", l.Path, quoted(text)))
			return
		}
	}
	if class := f.unwrapped; class && slices.ContainsFunc(row.Fields, func(o telemetry.Field) bool { return o.Name == f.name }) {
		return // STATUS 0 tells some of it twice
	}
	row.Fields = append(row.Fields, telemetry.Field{Name: f.name, Value: value})
	p.described.see(gear, f.name, f.unit, value.Kind())
}

// recogniseTasmota takes the messages of Tasmota by their topics, with the
// usual prefixes anywhere before the last level.
func recogniseTasmota(m Message) (map[string]any, bool) {
	levels := strings.Split(m.Topic, "/")
	n := len(levels)
	if n < 3 || !plainTopic(m.Topic) || !tasmotaTells(levels[n-1], m.Payload) {
		return nil, false
	}
	for _, at := range []int{n - 3, n - 2} {
		if levels[at] != "tele" && levels[at] != "stat" {
			continue
		}
		levels[at] = "%prefix%"
		gear := n - 2
		if at == n-2 {
			gear = n - 3
		}
		levels[gear] = "%topic%"
		fullTopic := strings.Join(levels[:n-1], "/") + "/"
		if fullTopic == "%prefix%/%topic%/" {
			return nil, true
		}
		return map[string]any{"full-topic": fullTopic}, true
	}
	return nil, false
}

var tasmotaStatus = regexp.MustCompile(`^STATUS[0-9]{0,2}$`)

func tasmotaTells(last string, payload []byte) bool {
	switch {
	case last == "LWT":
		return string(payload) == "Online" || string(payload) == "Offline"
	case tasmotaPower.MatchString(last):
		return tasmotaSwitchWord(payload)
	case last == "STATE", last == "SENSOR", last == "RESULT", last == "INFO1", last == "INFO2", last == "INFO3", tasmotaStatus.MatchString(last):
		return len(payload) > 0 && payload[0] == '{' && CheckJSON(payload) == nil
	}
	return false
}
