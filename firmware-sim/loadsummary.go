package firmwaresim

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// LoadSummary is what a load has measured. Rates are over the time from the
// first frame to the last acknowledgement.
type LoadSummary struct {
	// Ended is why the load ended before its time: what it tells is of what
	// was done until then. "": it did not.
	Ended          string  `json:"ended_early,omitempty"`
	Store          string  `json:"store,omitempty"` // of a hub of the load's own
	Devices        int     `json:"devices"`
	Idle           bool    `json:"idle,omitempty"`
	OpenLoop       bool    `json:"open_loop"`
	RateWanted     float64 `json:"rate_wanted"` // rows a second; 0: as windows allow
	ThinkSeconds   float64 `json:"think_seconds,omitempty"`
	RowsPerFrame   int     `json:"rows_per_frame"`
	FieldsPerRow   int     `json:"fields_per_row"`
	ConnectSeconds float64 `json:"connect_seconds"` // until every device was connected
	Seconds        float64 `json:"seconds"`

	FramesSent      int64   `json:"frames_sent"` // those sent again too
	FramesResent    int64   `json:"frames_resent"`
	FramesAcked     int64   `json:"frames_acknowledged"`
	FramesRejected  int64   `json:"frames_rejected"` // of those acknowledged
	FramesDropped   int64   `json:"frames_dropped"`  // due, and never acknowledged; where it ended early some were on their way
	FramesPerSecond float64 `json:"frames_per_second"`
	RowsPerSecond   float64 `json:"rows_per_second"`
	ValuesPerSecond float64 `json:"values_per_second"`
	// StoredPerSecond is values, until the hub had stored the last one; 0:
	// it was not waited for.
	StoredPerSecond float64 `json:"values_stored_per_second,omitempty"`

	Reconnects int64         `json:"reconnects"`         // but for those of Restart
	Recovery   *Recovery     `json:"recovery,omitempty"` // nil: no device was lost
	Restart    *Restart      `json:"restart,omitempty"`  // nil: the hub is not the load's own
	Throttles  int64         `json:"throttles"`
	Refused    int64         `json:"refused"` // devices that the hub told to stop
	AckP50     time.Duration `json:"ack_p50_ns"`
	AckP90     time.Duration `json:"ack_p90_ns"`
	AckP99     time.Duration `json:"ack_p99_ns"`
	AckP999    time.Duration `json:"ack_p999_ns"`
	AckMax     time.Duration `json:"ack_max_ns"`

	OwnCPUSeconds float64 `json:"own_cpu_seconds"` // of the simulator
	Hub           *HubUse `json:"hub,omitempty"`
}

// HubUse is what the hub's process has used.
type HubUse struct {
	UserSeconds   float64 `json:"user_seconds"` // of CPU, from the first frame to the end
	SystemSeconds float64 `json:"system_seconds"`
	// MicrosPerFrame, MicrosPerRow and MicrosPerValue are CPU time, user and
	// system; 0 where devices held still or connected again meanwhile, which
	// takes CPU time of its own.
	MicrosPerFrame float64 `json:"us_per_frame,omitempty"`
	MicrosPerRow   float64 `json:"us_per_row,omitempty"`
	MicrosPerValue float64 `json:"us_per_value,omitempty"`
	// Collected: resident memory was read right after garbage was collected
	// and free memory was given back to the system.
	Collected    bool  `json:"collected"`
	RSSBefore    int64 `json:"rss_before_bytes"` // the devices are enrolled, none is connected
	RSSAfter     int64 `json:"rss_after_bytes"`  // all are connected, what they sent is stored
	RSSPerDevice int64 `json:"rss_per_device_bytes"`
}

func (r *loadRun) summary(m *loadMeter) LoadSummary {
	c := &r.cfg
	s := LoadSummary{
		Devices: c.Devices, Idle: c.Idle, OpenLoop: r.period > 0, RateWanted: c.Rate,
		RowsPerFrame: c.RowsPerFrame, FieldsPerRow: c.FieldsPerRow, ConnectSeconds: m.connecting.Seconds(),
		FramesSent: r.sent.Load(), FramesResent: r.resent.Load(), FramesAcked: r.acked.Load(),
		FramesRejected: r.rejected.Load(), Throttles: r.throttles.Load(), Refused: r.refused.Load(),
		Reconnects: max(r.sessions.Load()-r.returns.Load()-int64(c.Devices), 0),
		AckP50:     r.latency.quantile(0.5), AckP90: r.latency.quantile(0.9), AckP99: r.latency.quantile(0.99),
		AckP999: r.latency.quantile(0.999), AckMax: r.latency.quantile(1),
		ThinkSeconds: c.Think.Seconds(), Restart: r.restart.Load(),
		Recovery: r.recovery.Load(), OwnCPUSeconds: m.ownCPU().Seconds(),
	}
	if r.own != nil {
		s.Store = r.own.kind
	}
	s.FramesDropped = max(r.due(time.Now())-s.FramesAcked, 0)
	perFrame := float64(c.RowsPerFrame)
	if last := r.lastAck.Load(); last != 0 {
		s.Seconds = time.Unix(0, last).Sub(r.start).Seconds()
		s.FramesPerSecond = float64(s.FramesAcked) / s.Seconds
		s.RowsPerSecond = s.FramesPerSecond * perFrame
		s.ValuesPerSecond = s.RowsPerSecond * float64(c.FieldsPerRow)
	}
	if m.rowsStored > 0 {
		s.StoredPerSecond = float64(m.rowsStored) * float64(c.FieldsPerRow) / m.storedAt.Sub(r.start).Seconds()
	}
	if m.pid != 0 && m.ended && !m.failed {
		framesAlone := s.FramesAcked
		if c.Idle || s.Reconnects > 0 {
			framesAlone = 0
		}
		s.Hub = m.hubUse(framesAlone, c)
	}
	return s
}

// due is how many frames were to be sent until now, by all devices together.
func (r *loadRun) due(now time.Time) (frames int64) {
	switch {
	case r.start.IsZero():
		return 0 // they were still connecting
	case r.cfg.Idle:
		return int64(r.frames) * int64(len(r.devices))
	case r.period == 0:
		return r.sent.Load() - r.resent.Load()
	}
	for _, d := range r.devices {
		if past := now.Sub(d.dueAt(1)); past >= 0 {
			frames += min(int64(past/r.period)+1, int64(r.frames))
		}
	}
	return frames
}

func (m *loadMeter) hubUse(frames int64, c *LoadConfig) *HubUse {
	h := &HubUse{
		UserSeconds:   (m.atEnd.user - m.atBegin.user).Seconds(),
		SystemSeconds: (m.atEnd.system - m.atBegin.system).Seconds(),
		Collected:     m.collects, RSSBefore: m.atStart.rss, RSSAfter: m.atRest.rss,
		RSSPerDevice: (m.atRest.rss - m.atStart.rss) / int64(c.Devices),
	}
	if frames > 0 {
		h.MicrosPerFrame = (h.UserSeconds + h.SystemSeconds) * 1e6 / float64(frames)
		h.MicrosPerRow = h.MicrosPerFrame / float64(c.RowsPerFrame)
		h.MicrosPerValue = h.MicrosPerRow / float64(c.FieldsPerRow)
	}
	return h
}

// WriteTo writes the summary for people.
func (s LoadSummary) WriteTo(w io.Writer) (int64, error) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if s.Ended != "" {
		line("ENDED EARLY", "%s: the figures are of what was done until then", s.Ended)
	}
	if s.ConnectSeconds > 0 {
		line("devices", "%d, all connected after %.1f s", s.Devices, s.ConnectSeconds)
	} else {
		line("devices", "%d", s.Devices)
	}
	line("frames", "%d rows of %d fields", s.RowsPerFrame, s.FieldsPerRow)
	if s.Store != "" {
		line("store", "%s", s.Store)
	}
	if s.OpenLoop {
		line("load", "%.0f rows/s wanted; acknowledgements are counted from when a frame was due", s.RateWanted)
	} else if s.ThinkSeconds > 0 {
		line("load", "a frame of each device %v after the acknowledgement of the one before; acknowledgements are counted from when a frame was due",
			time.Duration(s.ThinkSeconds*float64(time.Second)))
	} else if s.Idle {
		line("load", "the devices hold still; what they sent before came as windows allow")
	} else if s.FramesSent > 0 {
		line("load", "as windows allow; acknowledgements are counted from the sending")
	}
	if s.FramesSent > 0 {
		if s.Idle { // too few for a rate
			line("acknowledged", "%d frames within %v", s.FramesAcked, time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond))
		} else {
			line("acknowledged", "%.0f values/s, %.0f rows/s, %.0f frames/s, for %.1f s",
				s.ValuesPerSecond, s.RowsPerSecond, s.FramesPerSecond, s.Seconds)
		}
		if s.StoredPerSecond > 0 {
			line("stored", "%.0f values/s, until the last one", s.StoredPerSecond)
		}
		line("acknowledgement", "p50 %v, p90 %v, p99 %v, p99.9 %v, max %v", round10(s.AckP50), round10(s.AckP90),
			round10(s.AckP99), round10(s.AckP999), round10(s.AckMax))
		line("frames sent", "%d, %d of them again", s.FramesSent, s.FramesResent)
		missing := "dropped"
		if s.Ended != "" {
			missing = "not acknowledged yet"
		}
		line("rejected, "+missing, "%d, %d", s.FramesRejected, s.FramesDropped)
	}
	line("reconnects", "%d", s.Reconnects)
	if x := s.Recovery; x != nil {
		line("recovery", "%d devices were away at once; all were back after %.2f s: %.0f a second from the first return on", x.Lost, x.Seconds, x.PerSecond)
	}
	if x := s.Restart; x != nil {
		line("restart", "the hub was ready %.2f s after a SIGKILL; all were back after %.2f s: %.0f a second from the first return on",
			x.ReadySeconds, x.Seconds, x.PerSecond)
	}
	line("throttles", "%d", s.Throttles)
	if s.Refused > 0 {
		line("refused by the hub", "%d devices", s.Refused)
	}
	if h := s.Hub; h != nil {
		line("CPU of the hub", "%.2f s user, %.2f s system", h.UserSeconds, h.SystemSeconds)
		if h.MicrosPerFrame > 0 {
			line("", "%.2f µs a frame, %.2f µs a row, %.3f µs a value", h.MicrosPerFrame, h.MicrosPerRow, h.MicrosPerValue)
		}
		garbage := "after a collection of garbage"
		if !h.Collected {
			garbage = "garbage included"
		}
		line("memory of the hub", "resident %.1f MiB with 0 devices connected, %.1f MiB with %d: %.1f KiB a device, %s",
			mebibytes(h.RSSBefore), mebibytes(h.RSSAfter), s.Devices, float64(h.RSSPerDevice)/1024, garbage)
	}
	line("CPU of the simulator", "%.2f s", s.OwnCPUSeconds)
	return 0, table.Flush()
}

func round10(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
