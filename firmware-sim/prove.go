package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	credential "github.com/tetherline/tetherline/device"
)

// proof is one run of Prove.
type proof struct {
	// Set once, before things break.
	cfg         ProveConfig
	interrupted <-chan struct{} // closed: what is found now is of the end of the run
	dir         string
	began       time.Time
	influxd     string
	leftOut     map[string]string
	disk        *smallDisk   // nil: the hub has no disk of its own
	store       *provenStore // nil: the hub's embedded store
	hub         *provenHub
	hubURL      string
	links       []*faultyLink // between devices and hub
	devices     []*provenDevice
	stranger    credential.Credential
	tally       *tally
	watch       *hubWatch
	idle        hubSample // before a device was connected
	closers     []func()

	orders   orderLedger
	ballast  atomic.Int32 // bytes that devices add to a row
	doubting [doubts]atomic.Bool
	acking   chan struct{} // an acknowledgement, for whoever listens at that moment
	stalled  sync.Map      // *faultyLink: time.Time of the newest stall's beginning or end
	count    proofCounts

	mu      sync.Mutex
	verdict Verdict
	tried   map[string]int
	wrong   [promises]PromiseProved
	lost    []lostRows

	strangerRows uint64 // in the store

	sayMu sync.Mutex
}

// unfinishedFile is in the temporary folder of a proof until it has a verdict:
// of one that was killed, there is nothing to look into.
const unfinishedFile = "unfinished"

// smallDiskImage is the file of the hub's disk in the folder of the proof.
const smallDiskImage = "hub-disk.img"

// proofCounts are of what was tried and held.
type proofCounts struct {
	strangersRefused, strangersUnheard atomic.Int64
	revoked, revokedLate, revokedBusy  atomic.Int64 // within a second, later, and later on a busy machine
	usurpers, lostPeers                atomic.Int64
	refusedWrites, repeatedOrders      atomic.Int64
	unheardOrders                      atomic.Int64 // of which the hub rightly said nothing while it could hear nothing
	stubborn                           atomic.Int64 // answers of 500 to the row that is in quarantine for them
	slowestRevoke, slowestLoss         highest      // ns
	droppedByDevices, droppedByHub     uint64
	goroutinesLeft, descriptorsLeft    float64
	connectionsLeft                    float64
}

// highest is the largest of what it is raised to.
type highest struct{ atomic.Int64 }

func (h *highest) raise(v int64) {
	for old := h.Load(); v > old && !h.CompareAndSwap(old, v); old = h.Load() {
	}
}

// Prove starts a hub as a process of its own with a store, runs a fleet
// against it, breaks things by a schedule that the seed repeats, and compares
// what devices and commands' senders know with what the hub says in the end.
// An error says that nothing could be judged; a broken promise is none. With
// ErrInterrupted, when ctx ends, there is a Verdict where something had begun:
// it says what was found until then.
func Prove(ctx context.Context, cfg ProveConfig) (Verdict, error) {
	if err := cfg.complete(); err != nil {
		return Verdict{}, err
	}
	r := &proof{cfg: cfg, leftOut: map[string]string{}, tried: map[string]int{}, tally: newTally(), acking: make(chan struct{})}
	r.verdict.Commands.Ends = map[string]int{}
	defer r.close()
	r.interrupted = ctx.Done()
	plan, err := r.prepare(ctx)
	if ctx.Err() != nil {
		return Verdict{}, ErrInterrupted
	}
	if err != nil {
		return Verdict{}, err
	}
	early := r.run(ctx, plan)
	if ctx.Err() != nil {
		return r.conclude(ErrInterrupted), ErrInterrupted
	}
	return r.conclude(early), nil
}

// ErrInterrupted says that a proof, or a load, was told to end before it had
// all that it was begun for.
var ErrInterrupted = errors.New("interrupted")

// later has f called when the run is over; the last one first.
func (r *proof) later(f func()) { r.closers = append(r.closers, f) }

// close frees everything. The folder stays where somebody named it, and where
// there is something to look into.
func (r *proof) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
	if r.hub != nil && r.hub.transport != nil {
		r.hub.transport.CloseIdleConnections()
	}
	switch {
	case r.dir == "" || r.cfg.Dir != "":
	case r.verdict.Kept == "":
		_ = os.RemoveAll(r.dir)
	default:
		_ = os.Remove(filepath.Join(r.dir, unfinishedFile))
	}
}

func (r *proof) say(format string, args ...any) {
	r.sayMu.Lock()
	defer r.sayMu.Unlock()
	line := fmt.Sprintf(format, args...)
	if !r.began.IsZero() {
		line = fmt.Sprintf("%7.1f s  %s", time.Since(r.began).Seconds(), line)
	}
	r.cfg.Progress(line)
}

// find notes what contradicts a promise.
func (r *proof) find(p promise, format string, args ...any) {
	select {
	case <-r.interrupted:
		return // a program that is told to end by the same Ctrl-C has broken nothing
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.wrong[p]
	if len(w.Findings) < maxFindings {
		w.Findings = append(w.Findings, fmt.Sprintf(format, args...))
	} else {
		w.More++
	}
}

func (r *proof) happened(fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried[fault]++
}

// doubtRecent doubts the rows that were acknowledged right before now.
func (r *proof) doubtRecent(why doubt) {
	now := time.Now()
	for _, d := range r.devices {
		d.ledger.doubtRecent(why, now)
	}
}

// calmLink reports whether nothing was frozen on a link since then.
func (r *proof) calmLink(l *faultyLink, since time.Time) bool {
	at, ok := r.stalled.Load(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frozen == nil && (!ok || at.(time.Time).Before(since.Add(-time.Second)))
}
