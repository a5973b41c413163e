package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"golang.org/x/sync/errgroup"
)

// Devices is what the dispatcher asks of the registry. All methods may run at
// once.
type Devices interface {
	// CheckDevice returns nil when commands may be sent to the device, or an
	// error that wraps ErrUnknownDevice or ErrDeviceDisabled; a *DisabledError
	// says who has disabled it. It answers from memory.
	CheckDevice(ctx context.Context, device string) error
	// Registration is what tells the device that is registered under that name
	// from an earlier or later one; "": none is. It answers from memory.
	Registration(device string) string
	// Refresh waits until CheckDevice and Registration answer what the
	// registry holds of the device.
	Refresh(ctx context.Context, device string) error
	// SelectDevices lists the ids of the devices whose labels match, disabled
	// ones too, in a fixed order. A bad selector is an error that wraps
	// ErrInvalid.
	SelectDevices(ctx context.Context, selector string) ([]string, error)
}

// Operators is what the dispatcher asks about those who send group commands,
// each time before it issues one of a group. All methods may run at once.
type Operators interface {
	// CheckOperator returns nil when the operator may send a command to the
	// device now, or an error that wraps ErrNoOperator or ErrOutOfReach. id
	// tells the operator from a later one of that name. It answers from
	// memory.
	CheckOperator(name, id, device string) error
	// RefreshOperators waits until CheckOperator answers what the registry
	// holds.
	RefreshOperators(ctx context.Context) error
}

// Sender hands frames to the sessions of this node. All methods may run at
// once; none may block on the network or call the Dispatcher.
type Sender interface {
	// Send queues f on the device's session of this node and returns the
	// epoch of that session. ok false: nothing of f will ever be sent. Frames
	// go out in the order of the calls.
	Send(device string, f *devicev1.HubFrame) (epoch uint64, ok bool)
}

// Holder is a Sender some of whose sessions keep a command that they have
// taken until they can put it on the wire, as a bridge to gear does. The same
// holds for its methods, but that Recall may write durably.
type Holder interface {
	// Holds reports whether the device's session would keep a command now for
	// want of a connection: it stays QUEUED meanwhile.
	Holds(device string) bool
	// Recall takes back a command of which nothing has left, and says why not;
	// then nothing will, by no node and after no crash. ok false: that is not
	// known.
	Recall(ctx context.Context, device, id string) (why string, ok bool)
	// Keeps reports whether the device's session is such a one. It puts a
	// command on the wire once at most, however often it is handed over.
	Keeps(device string) bool
}

// Config of a Dispatcher.
type Config struct {
	// Node is this hub's name: it stays the same over restarts, and no other
	// node of the cluster has it. Required.
	Node    string
	Store   Store   // required
	Devices Devices // required
	Sender  Sender  // required
	// Operators are asked about each command of a group; nil: everybody may
	// go on with what was accepted.
	Operators Operators
	// MaxPending commands of one device that have not ended; 0:
	// DefaultMaxPending. Nodes that accept for one device at the same moment
	// can go over it by one command each.
	MaxPending int
	// OnEnd is called with each command that this node has seen to its end,
	// once; it must neither block nor call the Dispatcher. nil: nothing.
	OnEnd  func(*Command)
	Logger *slog.Logger // nil: slog.Default()
}

const (
	// storeTimeout bounds one durable write.
	storeTimeout = 5 * time.Second
	// retryAfter is the pause after a step that the store did not take.
	retryAfter = time.Second
	// takeoverGrace is how long a deadline is left to the node that the
	// command belongs to before another one acts on it.
	takeoverGrace = 3 * time.Second
	// wordDelay is how long DELIVERED waits for company before it is
	// written: the end of a quick command makes that write needless.
	wordDelay = 20 * time.Millisecond
	// progressDelay is the same for progress reports.
	progressDelay = time.Second
	// parallel bounds the devices served and the deadlines acted on at once.
	parallel = 32
)

// Dispatcher carries commands to devices and their ends back. Its methods may
// run at once; those that need the store wait until Run has read it.
type Dispatcher struct {
	cfg   Config
	log   *slog.Logger
	stats counters

	ready   chan struct{} // closed when the pending commands are known
	stopped chan struct{} // closed when Run returns
	ran     atomic.Bool
	wakeup  chan struct{} // capacity 1: there is something in due or lanes

	sweepEvery time.Duration // tests have it shorter

	newGroups chan *Group
	newLate   chan struct{} // capacity 1: there is something in lateEnds

	lateCancels chan *Command // to be told to the device, if it is connected here

	mu       sync.Mutex // guards what follows, and the fields of entry and queue that say so
	entries  map[string]*entry
	queues   map[string]*queue
	due      dueHeap
	rest     time.Time // until when loop sleeps, unless it is woken
	lanes    []*queue  // to be delivered
	ends     recentEnds
	watchers watcherSet
	groups   map[string]*groupRun
	lateEnds []lateEnd          // of groups, to be counted
	followed uint64             // revision up to which every change in the store has been learned
	owed     map[string]owedEnd // ends the store did not take yet
	unsure   map[string]unsure  // not put on the wire, and perhaps recorded as SENT
	keys     map[string]int     // being made: commands of that key, or, below zero, groups
}

// New checks cfg. The Dispatcher does nothing before Run.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.Node == "" || cfg.Store == nil || cfg.Devices == nil || cfg.Sender == nil {
		return nil, errors.New("commands: Node, Store, Devices and Sender are required")
	}
	if cfg.MaxPending < 0 {
		return nil, fmt.Errorf("commands: MaxPending %d is negative", cfg.MaxPending)
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = DefaultMaxPending
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Dispatcher{
		cfg: cfg, log: cfg.Logger,
		ready: make(chan struct{}), stopped: make(chan struct{}), wakeup: make(chan struct{}, 1),
		sweepEvery: sweepEvery,
		newGroups:  make(chan *Group, 16), newLate: make(chan struct{}, 1), lateCancels: make(chan *Command, 256),
		entries: map[string]*entry{}, ends: recentEnds{revision: map[string]uint64{}}, queues: map[string]*queue{},
		watchers: newWatcherSet(), groups: map[string]*groupRun{}, owed: map[string]owedEnd{}, unsure: map[string]unsure{}, keys: map[string]int{},
	}, nil
}

// Run reads the pending commands from the store and works until ctx ends;
// then it writes down what devices have said and returns nil. It may be
// called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	if d.ran.Swap(true) {
		return errors.New("commands: a Dispatcher runs once")
	}
	defer close(d.stopped)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.follow(gctx) })
	g.Go(func() error { return d.loop(gctx) })
	g.Go(func() error { return d.runGroups(gctx) })
	g.Go(func() error { return d.recordOwed(gctx) })
	g.Go(func() error { return d.followUp(gctx) })
	g.Go(func() error { return d.sweep(gctx) })
	err := g.Wait()
	d.watchers.close(&d.mu)
	if ctx.Err() != nil {
		d.flushWords()
		return nil
	}
	return err
}

// Ready is closed when the dispatcher knows the pending commands.
func (d *Dispatcher) Ready() <-chan struct{} { return d.ready }

// wait for the pending commands to be known.
func (d *Dispatcher) wait(ctx context.Context) error {
	select {
	case <-d.stopped:
		return ErrClosed
	default:
	}
	select {
	case <-d.ready:
		return nil
	case <-d.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for the pending commands to be read: %w", ctx.Err())
	}
}

// here is now, on this node.
func (d *Dispatcher) here(epoch uint64) at {
	return at{time: time.Now().UTC(), node: d.cfg.Node, epoch: epoch}
}

// storeContext is for a write that must not be cut off half-way when the
// caller goes away.
func storeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
}

func (d *Dispatcher) signal() {
	select {
	case d.wakeup <- struct{}{}:
	default:
	}
}
