package firmwaresim

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Bounds of simulated gear.
const (
	MaxGear         = 1000
	MinGearInterval = 10 * time.Millisecond
)

// GearConfig says which legacy gear to simulate on an MQTT broker.
type GearConfig struct {
	Broker   string         // tcp://host:port or ssl://host:port
	User     string         // "": none
	Password string         // of User
	RootCAs  *x509.CertPool // of ssl://; nil: the system's roots
	Kind     string         // of GearKinds
	Name     string         // "": as the kind has it; several get a number behind it
	Count    int            // 1 to MaxGear; 0: 1
	Interval time.Duration  // between readings, from MinGearInterval; 0: 1 s
	QoS      byte           // of what the gear publishes, 0 or 1
	Seed     uint64         // of the signals
	Logger   *slog.Logger   // nil: slog.Default()
}

// gearKinds make what speaks for the gear of some names, by kind.
var gearKinds = map[string]struct {
	name string // where the config has none
	// together: one connection speaks for all, as Zigbee2MQTT does.
	together bool
	make     func(names []string, rng *rand.Rand) gearModel
}{
	"tasmota":       {name: "tasmota-plug", make: newTasmotaGear},
	"zigbee2mqtt":   {name: "zigbee-plug", make: newZigbeeGear, together: true},
	"homie":         {name: "homie-lamp", make: newHomieGear},
	"shelly1":       {name: "shellyplug-s-C18B12", make: newShelly1Gear},
	"shelly2":       {name: "shellyplus1pm-a8032abe54dc", make: newShelly2Gear},
	"homeassistant": {name: "esp-attic", make: newHomeassistantGear},
	"sparkplug":     {name: "plant/press", make: newSparkplugGear},
	"raw":           {name: "raw-sensor", make: newRawGear},
	"json":          {name: "json-sensor", make: newJSONGear},
	"influx":        {name: "influx-sensor", make: newInfluxGear},
}

// GearKinds are the kinds of gear that can be simulated, in order.
func GearKinds() []string { return slices.Sorted(maps.Keys(gearKinds)) }

func (c *GearConfig) complete() error {
	kind, ok := gearKinds[c.Kind]
	if !ok {
		return fmt.Errorf("kind %q is none of %s", c.Kind, strings.Join(GearKinds(), ", "))
	}
	if u, err := url.Parse(c.Broker); err != nil || u.Host == "" || !slices.Contains([]string{"tcp", "ssl"}, u.Scheme) {
		return fmt.Errorf("broker %q is no tcp://host:port and no ssl://host:port", c.Broker)
	}
	if c.Name == "" {
		c.Name = kind.name
	}
	if c.Count == 0 {
		c.Count = 1
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Count < 1 || c.Count > MaxGear:
		return fmt.Errorf("count %d is not in 1 to %d", c.Count, MaxGear)
	case c.Interval < MinGearInterval:
		return fmt.Errorf("interval %v is below %v", c.Interval, MinGearInterval)
	case c.QoS > 1:
		return fmt.Errorf("QoS %d is neither 0 nor 1", c.QoS)
	case strings.ContainsAny(c.Name, "+#\x00") || c.Kind != "sparkplug" && strings.Contains(c.Name, "/"):
		return fmt.Errorf("name %q has a '/', '+' or '#'", c.Name)
	case c.Kind == "sparkplug" && strings.Count(c.Name, "/") != 1:
		return fmt.Errorf("name %q is not group/node", c.Name)
	}
	return nil
}

// names of all gear.
func (c *GearConfig) names() []string {
	if c.Count == 1 {
		return []string{c.Name}
	}
	names := make([]string, c.Count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", c.Name, i+1)
	}
	return names
}

// GearSummary is what simulated gear has done.
type GearSummary struct {
	Kind         string            `json:"kind"`
	Gear         []string          `json:"gear"`
	Seconds      float64           `json:"seconds"`
	Published    uint64            `json:"published"`    // messages
	Acknowledged uint64            `json:"acknowledged"` // of them, by the broker; with QoS 0: written
	Readings     map[string]uint64 `json:"readings"`     // acknowledged messages with readings, by gear
	Commands     uint64            `json:"commands"`     // obeyed
	Refused      uint64            `json:"refused"`      // commands that were not understood
	Reconnects   uint64            `json:"reconnects"`
}

// WriteTo writes the summary for people.
func (s GearSummary) WriteTo(w io.Writer) (int64, error) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("gear", "%d of the kind %s", len(s.Gear), s.Kind)
	line("time", "%.1f s", s.Seconds)
	line("messages published", "%d", s.Published)
	line("messages acknowledged", "%d", s.Acknowledged)
	line("commands obeyed", "%d", s.Commands)
	line("commands refused", "%d", s.Refused)
	line("reconnects", "%d", s.Reconnects)
	return 0, table.Flush()
}

// RunGear simulates legacy gear until ctx ends; broken connections are made
// again. The error is a config that is wrong, or a broker that refuses the
// first connection.
func RunGear(ctx context.Context, c GearConfig) (GearSummary, error) {
	if err := c.complete(); err != nil {
		return GearSummary{}, err
	}
	kind := gearKinds[c.Kind]
	names := c.names()
	groups := [][]string{names}
	if !kind.together {
		groups = slices.Collect(slices.Chunk(names, 1))
	}
	started := time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  error
		summary = GearSummary{Kind: c.Kind, Gear: names, Readings: map[string]uint64{}}
	)
	for i, group := range groups {
		rng := rand.New(rand.NewPCG(c.Seed, uint64(i)))
		link := &gearLink{config: &c, id: gearClientID(c.Kind, group[0]), model: kind.make(group, rng), readings: map[string]uint64{}}
		running.Go(func() {
			err := link.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			if link.addTo(&summary); err != nil && failed == nil {
				failed = fmt.Errorf("%s: %w", link.id, err)
				stop()
			}
		})
	}
	running.Wait()
	summary.Seconds = time.Since(started).Seconds()
	return summary, failed
}

// gearClientID is made of the name alone, as real gear does: two of one name
// push each other off the broker.
func gearClientID(kind, name string) string {
	return "sim-" + kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
			return r
		}
		return '-'
	}, name)
}

// gearModel is what speaks for gear on one connection. Its methods are called
// by one goroutine.
type gearModel interface {
	// will of the n-th connection, from 0.
	will(n uint64) gearMessage
	// listens to topic filters.
	listens() []string
	// born is said after each connection, goodbye before it is closed.
	born(n uint64) []gearMessage
	goodbye() []gearMessage
	// read is one reading of all its gear.
	read(now time.Time) []gearMessage
	// obey what came on a topic that it listens to.
	obey(topic string, payload []byte) (said []gearMessage, outcome gearOutcome)
}

type gearOutcome uint8

const (
	notForGear gearOutcome = iota
	obeyed
	notUnderstood
)

// gearMessage is one message to the broker.
type gearMessage struct {
	topic    string
	payload  []byte
	retained bool
	reading  string // of this gear; "": it is none
}

func said(topic, payload string) gearMessage {
	return gearMessage{topic: topic, payload: []byte(payload)}
}

func keptBy(topic, payload string) gearMessage {
	return gearMessage{topic: topic, payload: []byte(payload), retained: true}
}

func readingOf(gear, topic, payload string) gearMessage {
	return gearMessage{topic: topic, payload: []byte(payload), reading: gear}
}

// encoded is a value as JSON.
func encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "{}" // of values made here: never
	}
	return string(text)
}

// plug is what most gear here is: a relay with a meter and a thermometer.
type plug struct {
	on          bool
	rng         *rand.Rand
	energy      float64 // Wh
	temperature *diurnal
	started     time.Time
	last        time.Time
}

func newPlug(rng *rand.Rand) *plug {
	return &plug{on: true, rng: rng, energy: 1000 * rng.Float64(), started: time.Now(),
		temperature: &diurnal{rng: rng, mean: 21, swing: 3, noise: 0.1, lo: -20, hi: 60}}
}

// plugReading is one moment of a plug.
type plugReading struct {
	power, voltage, current, energy, temperature float64
	uptime                                       time.Duration
}

func (p *plug) read(now time.Time) plugReading {
	r := plugReading{voltage: round(230+2*p.rng.NormFloat64(), 1), temperature: p.temperature.at(now), uptime: now.Sub(p.started)}
	if p.on {
		r.power = round(60+3*p.rng.NormFloat64(), 1)
	}
	r.current = round(r.power/r.voltage, 3)
	if !p.last.IsZero() {
		p.energy += r.power * now.Sub(p.last).Hours()
	}
	p.last, r.energy = now, round(p.energy, 3)
	return r
}

// turn by a word: "on", "off" or "toggle" in capital or small letters.
func (p *plug) turn(word string) bool {
	switch strings.ToLower(word) {
	case "on", "1", "true":
		p.on = true
	case "off", "0", "false":
		p.on = false
	case "toggle", "2":
		p.on = !p.on
	default:
		return false
	}
	return true
}

// word for the state of the relay.
func (p *plug) word(on, off string) string {
	if p.on {
		return on
	}
	return off
}
