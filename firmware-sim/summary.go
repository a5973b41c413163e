package firmwaresim

import (
	"fmt"
	"io"
	"math/bits"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// Summary is what simulated devices have done. Rows published are those
// acknowledged, rejected, dropped and left.
type Summary struct {
	Devices       int           `json:"devices"`
	Seconds       float64       `json:"seconds"`
	RowsPublished uint64        `json:"rows_published"`
	RowsAcked     uint64        `json:"rows_acknowledged"`
	RowsRejected  uint64        `json:"rows_rejected"`
	RowsDropped   uint64        `json:"rows_dropped"`
	RowsLeft      uint64        `json:"rows_left"` // in spools at the end
	RowsPerSecond float64       `json:"rows_per_second"`
	FramesSent    uint64        `json:"frames_sent"`
	FramesResent  uint64        `json:"frames_resent"`
	Sessions      uint64        `json:"sessions"`
	Reconnects    uint64        `json:"reconnects"`
	Throttles     uint64        `json:"throttles"`
	Commands      uint64        `json:"commands"` // that were run
	Refused       int           `json:"refused"`  // devices that the hub told to stop
	AckP50        time.Duration `json:"ack_p50_ns"`
	AckP90        time.Duration `json:"ack_p90_ns"`
	AckP99        time.Duration `json:"ack_p99_ns"`
	AckMax        time.Duration `json:"ack_max_ns"`
}

// WriteTo writes the summary for people.
func (s Summary) WriteTo(w io.Writer) (int64, error) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("devices", "%d", s.Devices)
	line("time", "%.1f s", s.Seconds)
	line("rows published", "%d (%.0f/s)", s.RowsPublished, s.RowsPerSecond)
	line("rows acknowledged", "%d", s.RowsAcked)
	line("rows rejected", "%d", s.RowsRejected)
	line("rows dropped", "%d", s.RowsDropped)
	line("rows left in spools", "%d", s.RowsLeft)
	line("frames", "%d sent, %d of them again", s.FramesSent, s.FramesResent)
	line("sessions", "%d (%d reconnects)", s.Sessions, s.Reconnects)
	line("acknowledgement", "p50 %v, p90 %v, p99 %v, max %v",
		s.AckP50.Round(time.Microsecond*10), s.AckP90.Round(time.Microsecond*10),
		s.AckP99.Round(time.Microsecond*10), s.AckMax.Round(time.Microsecond*10))
	if s.Commands > 0 {
		line("commands run", "%d", s.Commands)
	}
	if s.Refused > 0 {
		line("refused by the hub", "%d devices", s.Refused)
	}
	return 0, table.Flush()
}

// tally gathers what the hooks of many devices tell.
type tally struct {
	started time.Time
	acks    histogram
}

func newTally() *tally { return &tally{started: time.Now()} }

func (t *tally) acknowledged(_ int, latency time.Duration) { t.acks.add(latency) }

func (t *tally) summary(devices []*device) Summary {
	s := Summary{Devices: len(devices), Seconds: time.Since(t.started).Seconds()}
	for _, d := range devices {
		st := d.stats()
		s.RowsPublished += st.RowsPublished
		s.RowsAcked += st.RowsAcked
		s.RowsRejected += st.RowsRejected
		s.RowsDropped += st.RowsDropped
		s.RowsLeft += uint64(st.Spool.Rows + st.RowsOpen)
		s.FramesSent += st.FramesSent
		s.FramesResent += st.FramesResent
		s.Sessions += st.Sessions
		s.Throttles += st.Throttles
		s.Commands += st.Commands
		if st.Sessions > 1 {
			s.Reconnects += st.Sessions - 1
		}
	}
	s.RowsPerSecond = float64(s.RowsPublished) / s.Seconds
	s.AckP50, s.AckP90, s.AckP99, s.AckMax = t.acks.quantile(0.5), t.acks.quantile(0.9), t.acks.quantile(0.99), t.acks.quantile(1)
	return s
}

// histogram counts durations in buckets of at most 1/16 relative width. It
// may be used at once by many goroutines.
type histogram struct {
	buckets [64 * 16]atomic.Uint64
}

func (h *histogram) add(d time.Duration) { h.buckets[bucketOf(uint64(max(d, 0)))].Add(1) }

func bucketOf(v uint64) int {
	if v < 16 {
		return int(v)
	}
	exponent := bits.Len64(v) - 5
	return exponent*16 + int(v>>exponent)
}

// bucketEnd is the largest value of a bucket.
func bucketEnd(i int) uint64 {
	if i < 32 {
		return uint64(i)
	}
	exponent := i/16 - 1
	return uint64(i%16+17)<<exponent - 1
}

// quantile is the upper end of the bucket that holds the q-th of all values;
// 0 where there are none.
func (h *histogram) quantile(q float64) time.Duration {
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	rank := uint64(q * float64(total))
	var seen uint64
	for i := range h.buckets {
		n := h.buckets[i].Load()
		seen += n
		if n > 0 && (seen > rank || seen == total) {
			return time.Duration(bucketEnd(i))
		}
	}
	return 0
}
