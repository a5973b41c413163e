package firmwaresim

import (
	"bufio"
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hubSample is what the hub's process holds at one moment.
type hubSample struct {
	life        int64         // of the hub: it starts anew after every kill
	at          time.Duration // since the beginning
	rss         float64       // bytes
	heap        float64       // bytes that the last collection has found alive
	goroutines  float64
	descriptors float64
	connections float64 // of devices
}

// sampleOf is what metrics say, but for the time and the life.
func sampleOf(m map[string]float64) hubSample {
	return hubSample{
		rss: m["process_resident_memory_bytes"], heap: heapOf(m),
		goroutines: m["go_goroutines"], descriptors: m["process_open_fds"], connections: m["tetherline_connections"],
	}
}

// hubWatch samples the hub's metrics. The samples are bounded: where there are
// too many, every other one is forgotten and the pause doubles.
type hubWatch struct {
	hub   *provenHub
	began time.Time
	full  func() // the buffer was nearly full in a sample; nil: nobody hears of it

	mu         sync.Mutex
	samples    []hubSample
	bufferPeak float64 // share of its bound
	peak       hubSample
}

const maxHubSamples = 8000

// nearlyFull is the share of its bound from which on the hub's buffer may be
// full before the next sample.
const nearlyFull = 0.8

// run samples until ctx ends.
func (w *hubWatch) run(ctx context.Context) {
	for pause := time.Second; sleep(ctx, pause); {
		if _, err := w.sample(ctx); err != nil {
			continue // it is away: that is what is tried
		}
		w.mu.Lock()
		if len(w.samples) >= maxHubSamples {
			for i := range w.samples[:len(w.samples)/2] {
				w.samples[i] = w.samples[2*i]
			}
			w.samples = w.samples[:len(w.samples)/2]
			pause *= 2
		}
		w.mu.Unlock()
	}
}

// sample asks once.
func (w *hubWatch) sample(ctx context.Context) (map[string]float64, error) {
	life := w.hub.lives.Load()
	m, err := w.hub.metrics(ctx)
	if err != nil {
		return nil, err
	}
	s := sampleOf(m)
	s.life, s.at = life, time.Since(w.began)
	share := 0.0
	if bound := m["tetherline_buffer_max_bytes"]; bound > 0 {
		share = m["tetherline_buffer_bytes"] / bound
	}
	if share > nearlyFull && w.full != nil {
		w.full()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, s)
	w.peak.rss, w.peak.heap = max(w.peak.rss, s.rss), max(w.peak.heap, s.heap)
	w.peak.goroutines, w.peak.descriptors = max(w.peak.goroutines, s.goroutines), max(w.peak.descriptors, s.descriptors)
	w.bufferPeak = max(w.bufferPeak, share)
	return m, nil
}

// metrics of the hub, by name; those with labels carry them as they stand.
func (h *provenHub) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := h.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	return readMetrics(answer.Body)
}

func readMetrics(r io.Reader) (map[string]float64, error) {
	m := make(map[string]float64)
	lines := bufio.NewScanner(io.LimitReader(r, 4<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && name != "#" {
			m[name] = v
		}
	}
	return m, lines.Err()
}

// trend is how a quantity has gone over the lives of a hub that were long
// enough to tell.
type trend struct {
	Name string `json:"name"`
	// Early and Late are its least values in the first and in the last third
	// of the longest life, after the warm-up; Slope is the least-squares one
	// over that life, an hour. Goroutines and descriptors of devices'
	// connections are left out of them, and not of Peak.
	Early float64 `json:"early"`
	Late  float64 `json:"late"`
	Slope float64 `json:"slope_per_hour"`
	Peak  float64 `json:"peak"`
	// Unseen is growth, an hour, that is not told from that of a hub which
	// leaks nothing: where Late is so much above Early, it has grown.
	Unseen float64 `json:"unseen_per_hour"`

	grown bool
}

const liveHeap = "live heap MiB" // name of its trend

// warmUp is not looked at: pools fill, caches grow.
const (
	warmUp      = 10 * time.Second
	longEnough  = 20 * time.Second // after the warm-up
	leisure     = 10 * time.Minute // a life that is not ruled by its last outage
	growthShare = 0.25
)

// fullest is the most of its bound that the hub's buffer held.
func (w *hubWatch) fullest() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bufferPeak
}

// longest life of the hub after its warm-up; nil: none was long enough.
func (w *hubWatch) longest() []hubSample {
	w.mu.Lock()
	defer w.mu.Unlock()
	var best []hubSample
	for i := 0; i < len(w.samples); {
		j := i
		for j < len(w.samples) && w.samples[j].life == w.samples[i].life {
			j++
		}
		life := w.samples[i:j]
		most := 0.0
		for _, s := range life {
			most = max(most, s.connections)
		}
		for len(life) > 0 && (life[0].at < w.samples[i].at+warmUp || life[0].connections < 0.9*most) {
			life = life[1:] // on a busy machine it takes a while until all devices are back
		}
		if len(life) > 6 && life[len(life)-1].at-life[0].at >= longEnough && (best == nil || life[len(life)-1].at-life[0].at > best[len(best)-1].at-best[0].at) {
			best = life
		}
		i = j
	}
	return best
}

// trends of the longest life, and how long it was.
func (w *hubWatch) trends() (trends []trend, over time.Duration) {
	life := w.longest()
	if life != nil {
		over = life[len(life)-1].at - life[0].at
	}
	const mebibyte = 1 << 20
	// What queues and pools may hold after an outage; they give it back.
	slack := 48.0
	if over > leisure {
		slack = 16
	}
	for _, q := range []struct {
		name        string
		unit, slack float64 // slack: growth that is no leak, in units
		of          func(hubSample) float64
	}{
		{"resident MiB", mebibyte, 2 * slack, func(s hubSample) float64 { return s.rss }},
		{liveHeap, mebibyte, slack, func(s hubSample) float64 { return s.heap }},
		// Those of devices' connections are left out: devices come and go.
		{"goroutines", 1, 60, func(s hubSample) float64 { return s.goroutines - s.connections }},
		{"descriptors", 1, 60, func(s hubSample) float64 { return s.descriptors - s.connections }},
	} {
		t := trend{Name: q.name, Peak: q.of(w.peak) / q.unit}
		if life != nil {
			third := len(life) / 3
			t.Early, t.Late = least(life[:third], q.of)/q.unit, least(life[len(life)-third:], q.of)/q.unit
			t.Slope = slope(life, q.of) / q.unit * float64(time.Hour)
			most := t.Early*growthShare + q.slack
			t.grown = t.Late > t.Early+most
			t.Unseen = most / (over.Hours() * 2 / 3) // from the first third to the last
		}
		trends = append(trends, t)
	}
	return trends, over
}

func least(samples []hubSample, of func(hubSample) float64) float64 {
	v := of(samples[0])
	for _, s := range samples {
		v = min(v, of(s))
	}
	return v
}

// slope by least squares, a nanosecond.
func slope(samples []hubSample, of func(hubSample) float64) float64 {
	var t, v float64
	for _, s := range samples {
		t, v = t+float64(s.at), v+of(s)
	}
	n := float64(len(samples))
	t, v = t/n, v/n
	var tv, tt float64
	for _, s := range samples {
		dt := float64(s.at) - t
		tv, tt = tv+dt*(of(s)-v), tt+dt*dt
	}
	if tt == 0 {
		return 0
	}
	return tv / tt
}

// restart counts the times of samples from then on.
func (w *hubWatch) restart(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = began
}
