package firmwaresim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a load.
const (
	loadDialers       = 64               // handshakes at once
	loadConnectFloor  = 100              // devices a second that a hub connects at least
	loadConnectMargin = time.Minute      // beside that
	loadDrainTimeout  = 30 * time.Second // without an acknowledgement while some are missing, and then without a row stored
)

// loadRun is one load under way.
type loadRun struct {
	// Set once.
	cfg     LoadConfig
	hub     string // that devices dial
	own     *loadHub
	devices []*loadDevice
	gate    chan struct{} // handshakes under way
	began   chan struct{} // closed when sending begins
	epoch   int64         // Unix ns: of the first row
	frames  int           // of each device; 0: until the end, or none where it is idle
	period  time.Duration // between the frames of a device; 0: as windows allow
	step    int64         // between rows, in ns

	frameBytes int // of a frame, at most

	// Set before began is closed.
	start, end time.Time

	online    atomic.Int64
	sessions  atomic.Int64
	finished  atomic.Int64 // devices that have sent all and are acknowledged
	refused   atomic.Int64
	sent      atomic.Int64 // frames, those sent again too
	resent    atomic.Int64
	acked     atomic.Int64 // frames, those rejected too
	rejected  atomic.Int64
	throttles atomic.Int64
	lastAck   atomic.Int64 // Unix ns
	failure   atomic.Pointer[error]
	recovery  atomic.Pointer[Recovery]
	restart   atomic.Pointer[Restart]
	returns   atomic.Int64 // sessions that began because the load has restarted its hub
	latency   histogram
}

// Load enrols devices, connects them, sends, waits until all is acknowledged,
// and reports. Devices of an earlier load get a new credential. A summary that
// comes with an error tells of what was done until then.
//
// With a Rate the loop is open: every frame has a time at which it is to be
// sent, and its acknowledgement is counted from then on, whether or not the
// device could send it at that time. With a Think each device sends a frame
// so long after the acknowledgement of the one before, and that is the time to
// count from. Without either each device sends as the hub's window allows, and
// an acknowledgement is counted from the sending on; what is sent again is
// counted from the first time.
func Load(ctx context.Context, cfg LoadConfig) (LoadSummary, error) {
	if err := cfg.complete(); err != nil {
		return LoadSummary{}, err
	}
	if cfg.Own != nil {
		return loadOwnHub(ctx, cfg)
	}
	return runLoad(ctx, cfg, nil)
}

// runLoad runs a load of a hub that is there; own is nil where it is not the
// load's.
func runLoad(ctx context.Context, cfg LoadConfig, own *loadHub) (LoadSummary, error) {
	r, err := newLoadRun(ctx, cfg)
	if err != nil {
		return LoadSummary{}, err
	}
	r.own = own
	if err := r.cfg.Stage("enrolled"); err != nil {
		return LoadSummary{}, err
	}
	m, err := newLoadMeter(ctx, &r.cfg)
	if err != nil {
		return LoadSummary{}, err
	}
	defer m.close()
	work, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	connecting := time.Now()
	for i, d := range r.devices {
		wait := time.Duration(float64(cfg.Ramp) * float64(i) / float64(len(r.devices)))
		running.Go(func() {
			if sleep(work, wait) {
				d.run(work)
			}
		})
	}
	if err := r.connected(work); err != nil {
		return r.ended(ctx, m, err)
	}
	r.cfg.Progress("connected", cfg.Devices, cfg.Devices)
	m.connected(time.Since(connecting))
	if err := r.cfg.Stage("connected"); err != nil {
		return r.ended(ctx, m, err)
	}
	return r.ended(ctx, m, r.measure(work, m))
}

// ended sums up, and says why it was over before its time; err nil: it was not.
func (r *loadRun) ended(ctx context.Context, m *loadMeter, err error) (LoadSummary, error) {
	s := r.summary(m)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		s.Ended = ErrInterrupted.Error()
	default:
		s.Ended = err.Error()
	}
	return s, err
}

func newLoadRun(ctx context.Context, cfg LoadConfig) (*loadRun, error) {
	ids := make([]string, cfg.Devices)
	for i := range ids {
		ids[i] = LoadID(cfg.Prefix, i+1)
	}
	enrolment, err := enrol(ctx, &FleetConfig{
		Hub: cfg.Hub, Token: cfg.Token, RootCAs: cfg.RootCAs,
		Enrolled: func(done int) { cfg.Progress("enrolled", done, cfg.Devices) },
	}, ids)
	if err != nil {
		return nil, err
	}
	host, err := url.Parse(enrolment.hubURL)
	if err != nil {
		return nil, fmt.Errorf("the hub's address for devices: %w", err)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host.Hostname(), RootCAs: enrolment.roots}
	r := &loadRun{
		cfg: cfg, hub: enrolment.hubURL, gate: make(chan struct{}, loadDialers), began: make(chan struct{}),
		// Of this load alone, so that its rows overwrite no others.
		epoch: time.Now().UnixNano(), step: flatOutStep,
	}
	switch {
	case cfg.Idle:
		r.frames = cfg.FramesAtFirst
	case cfg.Rate > 0:
		r.period = cfg.period()
		r.frames = int(cfg.For / r.period)
		r.step = int64(r.period) / int64(cfg.RowsPerFrame)
	}
	r.frameBytes = newLoadFrames(cfg.RowsPerFrame, cfg.FieldsPerRow, r.step).longest()
	for i, id := range ids {
		d := &loadDevice{load: r, index: i, credential: enrolment.credentials[id], wake: make(chan struct{}, 1), next: 1}
		_, _ = rand.Read(d.boot[:]) // it never fails
		// Each keeps its own TLS session, as devices do: a shared cache
		// would hold one for the host.
		d.tls = base.Clone()
		d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		r.devices = append(r.devices, d)
	}
	return r, nil
}

// measure lets the devices send, or hold still, and waits for what they sent.
func (r *loadRun) measure(ctx context.Context, m *loadMeter) error {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { r.watchRecovery(watch, r.recovered) })
	r.start = time.Now()
	if r.period > 0 || r.cfg.Think > 0 {
		r.start = r.start.Add(10 * time.Millisecond) // the others do not wait for it
	}
	r.end = r.start.Add(r.cfg.For)
	m.begin()
	close(r.began)
	if r.cfg.Idle {
		if err := r.hold(ctx, m); err != nil {
			return err
		}
		stop()
		return r.restarted(ctx)
	}
	if r.cfg.Storm {
		watching.Go(func() { r.storm(watch) })
	}
	if !sleep(ctx, time.Until(r.end)) {
		return ctx.Err()
	}
	err := r.drained(ctx)
	if err == nil {
		err = r.returned(ctx)
	}
	if r.cfg.WaitUntilStored && err == nil {
		err = m.stored(ctx, r)
	}
	m.finish(ctx)
	if stop(); err != nil {
		return err
	}
	return r.restarted(ctx)
}

// hold lets idle devices send what they send at first, and then waits.
func (r *loadRun) hold(ctx context.Context, m *loadMeter) error {
	if r.frames > 0 {
		if err := r.drained(ctx); err != nil {
			return err
		}
	}
	if err := r.cfg.Stage("settled"); err != nil {
		return err
	}
	if r.cfg.Storm {
		r.storm(ctx)
	}
	if !sleep(ctx, r.cfg.For) {
		return ctx.Err()
	}
	err := r.returned(ctx)
	m.finish(ctx)
	return err
}
