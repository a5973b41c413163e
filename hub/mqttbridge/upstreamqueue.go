package mqttbridge

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/telemetry"
)

// maxUpstreamBytes bounds the readings that wait to be published to one
// broker. What is beyond is lost to the broker, not to the store.
const maxUpstreamBytes = 4 << 20

// outgoing is what is to be published: readings in their order, and the
// devices of which something is to be told anew. Nothing that fills it waits.
type outgoing struct {
	wake chan struct{} // has room for one word

	mu     sync.Mutex
	open   bool // there is a connection
	rows   []reading
	bytes  int
	lost   uint64
	change map[string]*changed // by device id
	stale  map[string]struct{} // retained topics that nothing stands behind any more
}

// reading is one row, ready to be sent.
type reading struct {
	topic   string
	payload []byte
}

// changed is a device of which something has changed, with the retained
// topics that it may have had.
type changed struct{ before map[string]struct{} }

func newOutgoing() *outgoing {
	return &outgoing{wake: make(chan struct{}, 1), change: make(map[string]*changed), stale: make(map[string]struct{})}
}

func (o *outgoing) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// begin takes readings from now on; end drops what is left of them.
func (o *outgoing) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = true
}

func (o *outgoing) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = false
	o.lost += uint64(len(o.rows))
	o.rows, o.bytes = nil, 0
	clear(o.stale)
}

// put queues a reading, or counts it as lost.
func (o *outgoing) put(r reading) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := len(r.topic) + len(r.payload) + 64
	if !o.open || o.bytes+size > maxUpstreamBytes {
		o.lost++
		return
	}
	o.rows = append(o.rows, r)
	o.bytes += size
	o.signal()
}

func (o *outgoing) miss(rows uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost += rows
}

// deviceChanged notes a device; before are its retained topics until now.
func (o *outgoing) deviceChanged(id string, before map[string]struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open {
		return // everything is told anew when there is a connection
	}
	c := o.change[id]
	if c == nil {
		c = &changed{before: make(map[string]struct{})}
		o.change[id] = c
	}
	for topic := range before {
		c.before[topic] = struct{}{}
	}
	o.signal()
}

// forsaken notes a retained topic that is to be cleared.
func (o *outgoing) forsaken(topic string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open && len(o.stale) < maxStale {
		o.stale[topic] = struct{}{}
		o.signal()
	}
}

// maxStale bounds the retained topics that wait to be cleared.
const maxStale = 100_000

// takeStanding takes what is to be told of devices.
func (o *outgoing) takeStanding() (change map[string]*changed, stale map[string]struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change, stale = o.change, o.stale
	o.change, o.stale = make(map[string]*changed), make(map[string]struct{})
	return change, stale
}

// takeRows takes up to most readings.
func (o *outgoing) takeRows(most int) []reading {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(most, len(o.rows))
	batch := o.rows[:n:n]
	if o.rows = o.rows[n:]; len(o.rows) == 0 {
		o.rows = nil
	}
	for i := range batch {
		o.bytes -= len(batch[i].topic) + len(batch[i].payload) + 64
	}
	return batch
}

// takeLost is how many readings have been lost since it was called last.
func (o *outgoing) takeLost() (n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, o.lost = o.lost, 0
	return n
}

// payloadHead is what every reading begins with.
const payloadHead = `{"time":"`

// rowPayload is a row as JSON: its time, then its fields. No field is called
// "time".
func rowPayload(row *telemetry.Row) []byte {
	b := append(make([]byte, 0, 64+24*len(row.Fields)), payloadHead...)
	b = time.Unix(0, row.Time).UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	for i := range row.Fields {
		f := &row.Fields[i]
		b = append(b, ',', '"')
		b = append(b, f.Name...) // [A-Za-z0-9_]
		b = append(b, '"', ':')
		b = appendValue(b, f.Value)
	}
	return append(b, '}')
}

func appendValue(b []byte, v telemetry.Value) []byte {
	switch v.Kind() {
	case telemetry.Double:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case telemetry.Float:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 32)
	case telemetry.Int:
		return strconv.AppendInt(b, v.Int64(), 10)
	case telemetry.Bool:
		return strconv.AppendBool(b, v.Bool())
	case telemetry.String:
		return appendText(b, v.Str())
	}
	return append(b, "null"...)
}

// appendText writes a string of JSON (RFC 8259, section 7).
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// published reports whether upstream tells of a device: of those that speak
// the hub's own protocol alone, so that nothing goes in circles.
func publishedUpstream(d *registry.Device, selector registry.Selector) bool {
	return d != nil && d.Kind != registry.KindMQTT && selector.Match(d.Labels)
}
