package mqttbridge

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// entry waits to be appended.
type entry struct {
	gear      *gear
	received  int64
	rows      int
	telemetry []byte
}

// encode makes entries of rows, under the limits of a frame of the device
// protocol. Rows that break a rule are left out, with a reason; the others
// are kept.
func (b *broker) encode(a *arrival, g *gear, m *profile.Message, rows []telemetry.Row) {
	if len(rows) > telemetry.MaxFrameRows {
		b.encode(a, g, m, rows[:telemetry.MaxFrameRows])
		b.encode(a, g, m, rows[telemetry.MaxFrameRows:])
		return
	}
	msg, err := wire.Encode(1, rows)
	var info wire.Info
	if err == nil {
		info, err = wire.Check(msg, a.received, &g.fields)
	}
	if err == nil {
		b.encoded += len(msg)
		if a.entries == nil {
			a.entries = a.entry[:0]
		}
		a.entries = append(a.entries, entry{g, a.received.UnixNano(), info.Rows, msg})
		return
	}
	if half := len(rows) / 2; half > 0 {
		b.encode(a, g, m, rows[:half])
		b.encode(a, g, m, rows[half:])
		return
	}
	reason, detail := whyRefused(g, rows, err)
	b.counts.refused++
	g.problem = detail
	b.problem(problem{reason: reason, profile: g.bound.cfg.Name, topic: m.Topic, gear: g.name, detail: detail})
}

// whyRefused says why one row of gear is not stored, and what to do about it.
func whyRefused(g *gear, rows []telemetry.Row, err error) (reason, detail string) {
	var r *wire.Rejection
	if !errors.As(err, &r) {
		return "rows that cannot be expressed", err.Error()
	}
	fields := 0
	for i := range rows {
		fields += len(rows[i].Fields)
	}
	if r.Code != devicev1.RejectCode_REJECT_CODE_TOO_LARGE || g.fields.Len()+fields <= telemetry.MaxFields {
		return rejectionName(r), err.Error()
	}
	return "too many fields", fmt.Sprintf("a device has at most %d fields since the hub's start; it has %d, and some of the %d in this message are more: it is not stored. "+
		"Let the gear send fewer, or take fewer (omit or only of kind json)", telemetry.MaxFields, g.fields.Len(), fields)
}

// room reports whether more messages may be decoded: what is decoded must not
// take much more than what came.
func (b *broker) room() bool { return b.encoded < b.inbox.maxBytes }

// drain appends what is decoded, in order, until the buffer is full or gear
// is about to be allowed.
func (b *broker) drain(now time.Time) {
	if now.Before(b.retryAt) {
		return
	}
	b.retryAt = time.Time{}
	b.writeRepeats()
	b.syncRemembered()
	if !b.syncEarly() {
		b.retryAt = now.Add(fullPause)
		return
	}
	for b.appended < len(b.queue) {
		a := b.queue[b.appended]
		if !b.release(a) {
			return
		}
		b.writeRepeats()
		for len(a.entries) > 0 {
			if !b.append(a, &a.entries[0]) {
				b.retryAt = now.Add(fullPause)
				return
			}
			b.encoded -= len(a.entries[0].telemetry)
			a.entries = a.entries[1:]
		}
		a.entries = nil
		b.appended++
	}
}

// append one entry. It is false where the buffer takes nothing now.
func (b *broker) append(a *arrival, e *entry) bool {
	g := e.gear
	if g.device == nil || g.device.Disabled {
		return true // since it was decoded
	}
	err := b.bridge.deps.Buffer.Append(telemetry.Entry{
		Device: g.device.ID, Labels: g.labels, Received: e.received, Rows: e.rows, Telemetry: e.telemetry,
	}, b.seq+1, b)
	switch {
	case err == nil:
		b.seq++
		a.last = b.seq
		a.rows += uint64(e.rows)
	case errors.Is(err, telemetry.ErrFull) || errors.Is(err, telemetry.ErrClosed):
		return false
	default:
		b.counts.refused++
		b.problem(problem{reason: "buffer does not take it", profile: g.bound.cfg.Name, gear: g.name, detail: err.Error()})
	}
	return true
}

// release takes in the reports that waited for their gear to be allowed. It
// is false while one still does.
func (b *broker) release(a *arrival) bool {
	for len(a.held) > 0 {
		h := &a.held[0]
		if h.gear.allowing {
			return false
		}
		m := profile.Message{
			Topic: a.topic, Payload: a.payload, Retained: a.retained, Received: a.received,
		}
		if h.gear.device != nil {
			b.known(a, h.gear, &m, &h.report)
		} else {
			b.counts.unknown++
			unsent(h.report.Publish)
			b.stranger(h.bound, &h.report, a.received)
		}
		b.encoded -= h.bytes
		h.gear.held--
		a.held = a.held[1:]
	}
	a.held = nil
	return true
}

// Durable implements telemetry.Acker.
func (b *broker) Durable(seq uint64) {
	b.durable.Store(seq)
	b.inbox.signal()
}

// embeddedHold is how old a message of the hub's own broker must be before it
// is acknowledged. That broker writes down what it has sent every 100 ms, and
// repeats what it has not, where it is killed with the hub, without a mark. A
// message that was not acknowledged is known again all the same.
const embeddedHold = 150 * time.Millisecond

// unripe is how long the broker's first message that is durable must wait
// before it is acknowledged; 0: there is none, or it must not wait.
func (b *broker) unripe() time.Duration {
	if b.conn.dialer.endpoint == nil || b.appended == 0 || b.queue[0].last > b.durable.Load() {
		return 0
	}
	return max(0, embeddedHold-time.Since(b.queue[0].received))
}

// settle acknowledges what is durable from the front on, in order (MQTT
// 3.1.1, section 4.6), and what has nothing to store when its turn comes.
func (b *broker) settle() {
	durable, ripe := b.durable.Load(), time.Now()
	if b.conn.dialer.endpoint != nil {
		ripe = ripe.Add(-embeddedHold)
	}
	n := 0
	for n < b.appended && b.queue[n].last <= durable && !b.queue[n].received.After(ripe) {
		n++
	}
	if n == 0 {
		return
	}
	// Before the acknowledgements: after them the broker may use a packet
	// identifier again.
	b.inbox.settled(b.queue[:n])
	for _, a := range b.queue[:n] {
		b.counts.rows += a.rows
		if a.hash != 0 {
			b.repeats.acked(a.id, a.hash)
		}
		if a.early != nil {
			b.earlySettled(a)
		}
	}
	b.writeRepeats()
	acknowledge(b.queue[:n])
	clear(b.queue[:n])
	b.appended -= n
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
}

// writeRepeats writes down what is new in the memory of redeliveries.
// The times come first: a message that is known again has its own.
func (b *broker) writeRepeats() {
	if err := b.owntimes.write(); err != nil {
		b.problem(problem{reason: "memory of times", detail: err.Error()})
	}
	if err := b.repeats.write(); err != nil {
		b.problem(problem{reason: "memory of redeliveries", detail: err.Error()})
	}
}

// rejectionName is "bad time" for REJECT_CODE_BAD_TIME.
func rejectionName(r *wire.Rejection) string {
	name := strings.TrimPrefix(r.Code.String(), "REJECT_CODE_")
	return strings.ReplaceAll(strings.ToLower(name), "_", " ")
}
