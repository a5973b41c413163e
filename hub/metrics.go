package hub

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// metrics are the hub's numbers. The parts count in atomics of their own,
// which are read when somebody asks; only durations are observed as they
// happen.
type metrics struct {
	hub      *Hub
	sessions session.Metrics
	gateway  gateway.Metrics
	rate     rate
	memory   memoryMetrics

	registry *prometheus.Registry
	commit   prometheus.Histogram
	write    *prometheus.HistogramVec
}

func newMetrics(h *Hub) *metrics {
	m := &metrics{
		hub:      h,
		registry: prometheus.NewRegistry(),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tetherline_buffer_commit_seconds", Help: "From the first frame of a chunk to its fsync.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		write: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tetherline_store_write_seconds", Help: "Writes of batches to the store, by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"outcome"}),
	}
	m.rate.read = func() uint64 { return h.buffer.Stats.Rows.Load() }
	m.rate.past = []sample{{at: time.Now()}}
	m.registry.MustRegister(m.commit, m.write, m,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observeCommit(took time.Duration) { m.commit.Observe(took.Seconds()) }

func (m *metrics) observeWrite(took time.Duration, _ int, err error) {
	outcome := "stored"
	if err != nil {
		outcome = telemetry.ClassOf(err).String()
	}
	m.write.WithLabelValues(outcome).Observe(took.Seconds())
}

// rejects is how many frames were answered by Reject, but for those without a
// row: an SDK sends one in the place of each frame that its device has dropped,
// and nothing is wrong with it.
func (m *metrics) rejects() uint64 {
	var n uint64
	for i := range m.sessions.Rejects {
		if devicev1.RejectCode(i) != devicev1.RejectCode_REJECT_CODE_EMPTY {
			n += m.sessions.Rejects[i].Load()
		}
	}
	return n
}

// Describe implements prometheus.Collector: the metrics are described as they
// are collected.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	c := collector{out}
	m.collectDevices(c)
	m.collectTelemetry(c)
	m.collectCommands(c)
	m.collectMQTT(c)
	m.collectMQTTBridge(c)
	m.memory.collect(c)
}

func (m *metrics) collectDevices(c collector) {
	h, s := m.hub, &m.sessions
	c.gauge("devices", "Devices in the registry.", float64(h.registry.Len()))
	c.gauge("connections", "Devices connected to this node.", float64(h.live.Online()))
	c.gauge("connections_peak", "Most devices connected to this node at once since it started.", float64(h.live.Peak()))
	c.gauge("handshakes_in_flight", "Connections that have not proved themselves.", float64(m.gateway.Handshakes.Load()))
	for i := range s.Handshakes {
		c.counter("handshakes_total", "Handshakes, by outcome.", s.Handshakes[i].Load(), "outcome", session.Outcome(i).String())
	}
	for i := range m.gateway.Refusals {
		c.counter("refusals_total", "Requests of devices refused before the WebSocket was open, by reason.", m.gateway.Refusals[i].Load(),
			"reason", gateway.Refusal(i).String())
	}
	for i, info := range session.CloseCodes() {
		c.counter("closes_total", "Sessions closed, by close code.", s.Closes[i].Load(), "code", info.Name)
	}
	var evicted, refused, speechless uint64
	for _, l := range h.listeners {
		evicted += l.Evicted.Load()
		refused += l.Refused.Load()
		speechless += l.Speechless.Load()
	}
	if h.mqtt != nil {
		evicted += h.mqtt.listener.Evicted.Load()
		refused += h.mqtt.listener.Refused.Load()
	}
	c.counter("strangers_evicted_total", "Connections of nobody known cut off to make room.", evicted)
	c.counter("strangers_refused_total", "Connections of an address that had too many of nobody known.", refused)
	c.counter("strangers_speechless_total", "Connections that ended without a request: given up, or too slow.", speechless)
	c.counter("frames_received_total", "Frames of devices after the welcome.", s.Frames.Load())
	c.counter("received_bytes_total", "Bytes in them.", s.Bytes.Load())
	c.counter("sent_bytes_total", "Bytes of frames to devices.", s.BytesSent.Load())
	c.counter("pings_total", "Heartbeats sent.", s.Pings.Load())
	c.counter("throttles_total", "Frames sent back by a Throttle.", s.Throttles.Load(), "kind", "resume")
	c.counter("throttles_total", "Frames sent back by a Throttle.", s.SlowDowns.Load(), "kind", "slow_down")
	c.counter("acks_total", "Ack frames sent.", s.Acks.Load())
	for i := range s.Rejects {
		if i > 0 {
			c.counter("rejects_total", "Telemetry frames refused for good, by code; an empty one stands for a frame that a device has dropped.", s.Rejects[i].Load(), "code", rejectName(i))
		}
	}
	c.counter("duplicates_total", "Telemetry frames that were durable already.", s.Duplicates.Load())
	c.counter("renewals_total", "Credentials handed over in-band.", s.Renewals.Load())
}

// rejectName is "bad_name" for REJECT_CODE_BAD_NAME.
func rejectName(code int) string {
	return strings.ToLower(strings.TrimPrefix(devicev1.RejectCode(code).String(), "REJECT_CODE_"))
}

func (m *metrics) collectTelemetry(c collector) {
	h := m.hub
	b, p := &h.buffer.Stats, &h.pump.Stats
	c.counter("rows_acknowledged_total", "Rows made durable in the buffer.", b.Rows.Load())
	c.counter("buffer_chunks_total", "Chunks made durable in the buffer.", b.Chunks.Load())
	c.counter("buffer_write_failures_total", "Failed attempts to write a chunk.", b.Failures.Load())
	c.counter("buffer_refused_total", "Frames refused because the buffer was full.", b.Refused.Load())
	pressure := h.buffer.Pressure()
	c.gauge("buffer_bytes", "Bytes that wait in the buffer.", float64(pressure.Bytes))
	c.gauge("buffer_max_bytes", "Bound of the buffer.", float64(pressure.MaxBytes))
	c.gauge("buffer_chunks", "Chunks that wait in the buffer.", float64(pressure.Chunks))
	c.gauge("buffer_oldest_seconds", "Age of the oldest chunk in the buffer.", pressure.Oldest.Seconds())
	c.counter("rows_stored_total", "Rows stored; one that is stored again counts again.", p.Rows.Load())
	c.counter("rows_quarantined_total", "Rows put into quarantine.", p.Quarantined.Load())
	for i := range p.Errors {
		c.counter("store_errors_total", "Failed writes to the store, by class.", p.Errors[i].Load(), "class", telemetry.Class(i).String())
	}
	c.gauge("store_last_success_timestamp_seconds", "Unix time of the last stored batch; 0: none yet.", float64(p.LastStored.Load())/1e9)
}

func (m *metrics) collectCommands(c collector) {
	known := false // before the figures: as they are told, the rest is being read
	select {
	case <-m.hub.commands.Ready():
		known = true
	default:
	}
	s := m.hub.commands.Stats()
	if known {
		c.gauge("commands_pending", "Commands without an end, of all nodes; absent until they are known, soon after a start.", float64(s.Pending))
	}
	c.gauge("commands_owed_ends", "Ends of commands that wait for the store.", float64(s.OwedEnds))
	c.counter("commands_accepted_total", "Commands accepted by this node.", s.Accepted)
	const refused = "Commands refused, by reason: the device had too many pending, or the store had no room."
	c.counter("commands_refused_total", refused, s.Refused, "reason", "too_many_pending")
	c.counter("commands_refused_total", refused, s.RefusedFull, "reason", "store_full")
	if store := m.hub.commandStore; store != nil {
		u := store.Usage()
		c.gauge("commands_store_bytes", "Bytes of the commands on disk, history included.", float64(u.Bytes))
		c.gauge("commands_store_max_bytes", "Bound of the commands on disk; near it the oldest ended ones make room.", float64(u.MaxBytes))
		c.counter("commands_dropped_total", "Ended commands dropped by this node before their time, to make room.", u.Dropped)
	}
	c.counter("commands_sent_total", "Commands handed to a session, repetitions included.", s.Sent)
	c.counter("commands_resent_total", "Repetitions among them.", s.Resent)
	c.counter("commands_late_total", "Ends that a device reported after the hub had decided.", s.Late)
	c.counter("commands_store_errors_total", "Steps that the store did not take at first.", s.StoreErrors)
	for _, state := range commands.States() {
		if state.Ended() {
			c.counter("commands_ended_total", "Commands that this node has seen end, by state.", s.Ended[state], "state", state.String())
		}
	}
}

// collectMQTT collects of the embedded MQTT broker.
func (m *metrics) collectMQTT(c collector) {
	b := m.hub.mqtt
	if b == nil {
		return
	}
	s := &b.Stats
	c.gauge("mqtt_clients", "Clients connected to the embedded MQTT broker.", float64(b.Clients()))
	const help = "Clients that asked to connect to the embedded MQTT broker, by what came of it."
	c.counter("mqtt_connects_total", help, s.Accepted.Load(), "outcome", "accepted")
	c.counter("mqtt_connects_total", help, s.Refused.Load(), "outcome", "wrong_password")
	c.counter("mqtt_connects_total", help, s.Full.Load(), "outcome", "too_many_clients")
	c.counter("mqtt_received_bytes_total", "Bytes received from MQTT clients.", s.ReceivedBytes.Load())
	c.counter("mqtt_sent_bytes_total", "Bytes sent to MQTT clients.", s.SentBytes.Load())
	c.counter("mqtt_received_messages_total", "Messages published by MQTT clients.", s.Received.Load())
	c.counter("mqtt_sent_messages_total", "Messages sent to MQTT clients.", s.Sent.Load())
}

// collector makes Prometheus metrics of plain numbers.
type collector struct {
	out chan<- prometheus.Metric
}

func (c collector) gauge(name, help string, v float64) {
	c.out <- prometheus.MustNewConstMetric(prometheus.NewDesc("tetherline_"+name, help, nil, nil), prometheus.GaugeValue, v)
}

// labelled makes a gauge with labels: pairs of name and value.
func (c collector) labelled(name, help string, v float64, labels ...string) {
	names, values := pairs(labels)
	c.out <- prometheus.MustNewConstMetric(prometheus.NewDesc("tetherline_"+name, help, names, nil),
		prometheus.GaugeValue, v, values...)
}

// counter makes a counter; labels are pairs of name and value.
func (c collector) counter(name, help string, v uint64, labels ...string) {
	names, values := pairs(labels)
	c.out <- prometheus.MustNewConstMetric(prometheus.NewDesc("tetherline_"+name, help, names, nil),
		prometheus.CounterValue, float64(v), values...)
}

func pairs(labels []string) (names, values []string) {
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return names, values
}

// rate is the speed of a counter over about the last ten seconds, as far as
// somebody has asked meanwhile; else since it was last asked for.
type rate struct {
	read func() uint64

	mu     sync.Mutex
	past   []sample
	latest float64
}

type sample struct {
	at    time.Time
	value uint64
}

const rateSpan = 10 * time.Second

func (r *rate) perSecond() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := sample{time.Now(), r.read()}
	for len(r.past) > 1 && now.at.Sub(r.past[0].at) > rateSpan {
		r.past = r.past[1:]
	}
	if len(r.past) == 0 || now.at.Sub(r.past[len(r.past)-1].at) >= rateSpan/20 {
		r.past = append(r.past, now)
	}
	if span := now.at.Sub(r.past[0].at); span >= rateSpan/20 {
		r.latest = float64(now.value-r.past[0].value) / span.Seconds()
	}
	return r.latest
}
