package profile

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Bounds of messages that came early.
const (
	maxEarlyBytes = 8 << 20 // with earlyOverhead for each
	earlyOverhead = 128
	// earlyFor is how long they wait. What describes them is retained, and
	// comes with the answer to the subscription.
	earlyFor = 30 * time.Second
)

// early keeps messages that came before what describes them. A broker that has
// kept messages for the hub sends them at once when the hub is back, and what
// is retained only after that: readings would be lost that were published at
// QoS 1. The zero early is ready; it is for one goroutine.
type early struct {
	byTopic map[string][]Message
	bytes   int
	from    time.Time // the session's first message; zero: there was none
	lost    int       // messages that waited in vain, since they were last told
}

// begin a session with the broker.
func (e *early) begin() { e.from = time.Time{} }

// hold a copy of a message; false: it is too late in the session for what
// describes it to come, or there is no room.
func (e *early) hold(m Message) bool {
	if e.from.IsZero() {
		e.from = m.Received
	}
	e.expire(m.Received)
	if since := m.Received.Sub(e.from); m.Retained || since < 0 || since >= earlyFor {
		return false
	}
	n := len(m.Topic) + len(m.Payload) + earlyOverhead
	if e.bytes+n > maxEarlyBytes {
		return false
	}
	if e.byTopic == nil {
		e.byTopic = map[string][]Message{}
	}
	e.bytes += n
	m.Topic, m.Payload = strings.Clone(m.Topic), bytes.Clone(m.Payload)
	e.byTopic[m.Topic] = append(e.byTopic[m.Topic], m)
	return true
}

// of the topic; they stay.
func (e *early) of(topic string, now time.Time) []Message {
	e.expire(now)
	return e.byTopic[topic]
}

// take those of the topic away.
func (e *early) take(topic string, now time.Time) []Message {
	messages := e.of(topic, now)
	delete(e.byTopic, topic)
	for _, m := range messages {
		e.bytes -= len(m.Topic) + len(m.Payload) + earlyOverhead
	}
	return messages
}

// expire forgets all when they have waited too long.
func (e *early) expire(now time.Time) {
	if e.bytes == 0 || now.Sub(e.from) < earlyFor && !now.Before(e.from) {
		return
	}
	for _, messages := range e.byTopic {
		e.lost += len(messages)
	}
	clear(e.byTopic)
	e.bytes = 0
}

// earlyRow is a row of a message that was held: of the time when it came, plus
// offset ns.
func earlyRow(m Message, offset int, field string, value telemetry.Value) telemetry.Row {
	row := oneRow(field, value)[0]
	row.Time = m.Received.UnixNano() + int64(offset)
	return row
}

// withRows spreads rows over as many reports as they need.
func withRows(report Report, rows []telemetry.Row, reports []Report) []Report {
	for chunk := range slices.Chunk(rows, telemetry.MaxFrameRows) {
		report.Rows = chunk
		reports = append(reports, report)
		report = Report{Gear: report.Gear, NotAlive: report.NotAlive}
	}
	if len(rows) == 0 {
		reports = append(reports, report)
	}
	return reports
}
