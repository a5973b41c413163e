package mqttbridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// Fixed times of a broker's worker.
const (
	// lossGrace is how long gear stays online while the broker is away.
	lossGrace = 3 * time.Second
	// tickInterval is how often silence and other slow things are looked at.
	tickInterval = time.Second
	// fullPause is how long to wait before a full buffer is tried again.
	fullPause = 50 * time.Millisecond
	// turn is how many messages the worker takes before it looks up.
	turn = 128
	// stopTime bounds the settling of what is under way when the hub stops.
	stopTime = 3 * time.Second
)

// broker is one broker of the config with everything that goes on there. One
// goroutine, its worker, decodes and appends; the handlers of the client, the
// buffer, the dispatcher and the registry leave word in the inbox.
type broker struct {
	bridge   *Bridge
	cfg      *BrokerConfig
	log      *slog.Logger
	conn     connection
	upstream *upstream // nil: nothing is published of wss devices
	inbox    inbox
	desk     desk
	durable  atomic.Uint64 // the last seq that is durable
	overlaps bool          // filters of two profiles overlap

	fenceTopic string // of the hub's messages to itself
	clients    clientProblems

	unsent   unsentCommands
	away     atomic.Bool   // not connected
	lateTime time.Duration // lateTime; tests have another

	mu sync.Mutex // held by the worker while it works; guards all that follows

	profiles   []*bound
	repeats    *redelivery
	owntimes   *toldFile
	marks      *marks
	early      early
	backlog    backlog
	remembered remembered
	newest     int64 // time of arrival that was given to any row or message
	// A session in which no message was of interest to repeats was not resumed:
	// what repeats knows is of sessions that the broker has forgotten.
	unresumed bool
	reports   []profile.Report // scratch

	session   *link // nil: not connected
	connected bool
	since     time.Time // of connected
	retained  time.Time // when a message that the broker retains was looked at last
	failure   string    // why not connected

	queue    []*arrival // decoded, in order; those before appended wait to be durable
	appended int
	encoded  int    // bytes of entries that wait to be appended
	seq      uint64 // of the last entry appended
	retryAt  time.Time
	gather   gather
	taken    []*arrival // scratch

	allowed map[*gear]struct{} // gear of all profiles that is allowed or about to be
	changed map[*gear]struct{} // whose description is to be saved
	// When to try again what the registry could not write, zero: there is
	// nothing; the pause before that, and the gear that is being tried.
	enrolAgain time.Time
	enrolPause time.Duration
	tried      *gear
	ticked     time.Time
	upSince    time.Time // the worker is up with what comes; zero: it is not

	problems problems
	counts   counts
	parked   []parked // commands that wait for the broker, oldest first

	fenceRefused bool // the session that is about to begin does not hear the hub itself
}

// counts of a broker.
type counts struct {
	messages, rows, refused, unknown, published uint64
	lost                                        uint64 // that gear has counted
}

// bound is a profile of the config at work.
type bound struct {
	cfg         *ProfileConfig
	kind        profile.Kind
	profile     profile.Profile
	filters     []string
	describing  profile.Describing  // profile; nil: no message of it is early
	remembering profile.Remembering // profile; nil: it remembers nothing over a restart
	timely      profile.Timely      // profile; nil: time tells it nothing
	silence     time.Duration       // 0: never

	gear     map[string]*gear // allowed or about to be, by name
	strange  strangers
	waiting  []*waiting // commands, oldest first
	messages uint64
}

func newBroker(b *Bridge, cfg *BrokerConfig) (*broker, error) {
	br := &broker{
		bridge: b, cfg: cfg, log: b.deps.Logger.With("broker", cfg.Name), since: time.Now(), failure: "not connected yet", lateTime: lateTime,
		allowed: make(map[*gear]struct{}), changed: make(map[*gear]struct{}),
	}
	br.desk.init()
	dialer, err := newDialer(cfg, b.deps.Embedded)
	if err != nil {
		return nil, err
	}
	br.conn = connection{
		dialer: dialer, clientID: cfg.ClientID, take: br.inbox.put, fills: br.inbox.fills, up: br.up, down: br.down, failed: br.failed,
		before: subscribed{filepath.Join(b.deps.Dir, cfg.Name+".subscriptions")}, odd: br.odd,
		retained: br.inbox.retainedCame, heldUp: br.inbox.heldUp,
		refused: br.refusedFilter, pauses: [2]time.Duration{firstPause, lastPause},
	}
	if br.conn.clientID == "" {
		br.conn.clientID = "tetherline-" + b.deps.Node + "-" + cfg.Name
	}
	pending := cfg.MaxPendingBytes
	if pending == 0 {
		pending = DefaultPendingBytes
	}
	br.inbox.init(pending)
	br.inbox.patience = dialer.pingTimeout / 2
	var filters []string
	for i := range cfg.Profiles {
		p, err := newBound(&cfg.Profiles[i], b.share)
		if err != nil {
			return nil, err
		}
		if cfg.Profiles[i].Kind == kindSparkplug {
			br.inbox.counted = append(br.inbox.counted, p.filters...)
		}
		for _, f := range p.filters {
			for _, g := range filters {
				br.overlaps = br.overlaps || overlap(f, g)
			}
		}
		filters = append(filters, p.filters...)
		br.profiles = append(br.profiles, p)
	}
	br.inbox.own = fenceTopic(br.conn.clientID)
	if br.fenceTopic = br.inbox.own; len(filters) > 0 && !matchesAny(filters, br.fenceTopic) {
		filters = append(filters, br.fenceTopic)
	}
	if br.conn.filters = cover(filters); cfg.URL == EmbeddedURL {
		br.conn.filters = everything(filters)
		br.conn.wanted = func(topic string) bool { return matchesAny(filters, topic) }
	}
	if cfg.Publish != nil {
		if br.upstream, err = newUpstream(cfg, &b.deps, br.trouble); err != nil {
			return nil, err
		}
	}
	if br.marks, err = openMarks(filepath.Join(b.deps.Dir, cfg.Name+".marks")); err != nil {
		return nil, err
	}
	br.backlog.before = br.marks.all
	if br.repeats, err = openRedelivery(filepath.Join(b.deps.Dir, cfg.Name+".arrivals"), cfg.URL == EmbeddedURL); err != nil {
		return nil, err
	}
	if br.owntimes, err = openTold(filepath.Join(b.deps.Dir, cfg.Name+".times")); err != nil {
		return nil, err
	}
	if br.early, err = openEarly(filepath.Join(b.deps.Dir, cfg.Name+".early")); err != nil {
		return nil, err
	}
	br.remembered, err = openRemembered(filepath.Join(b.deps.Dir, cfg.Name+".births"))
	return br, err
}

func newBound(cfg *ProfileConfig, strangers int) (*bound, error) {
	kind, ok := profile.KindOf(cfg.Kind)
	if !ok {
		return nil, fmt.Errorf("profile %s: there is no kind %.80q", cfg.Name, cfg.Kind)
	}
	made, err := kind.New(cfg.decodeSettings)
	if err != nil {
		return nil, fmt.Errorf("profile %s: settings: %w", cfg.Name, err)
	}
	p := &bound{cfg: cfg, kind: kind, profile: made, filters: made.Filters(), silence: kind.Silence, gear: make(map[string]*gear)}
	if cfg.Silence != nil {
		p.silence = *cfg.Silence
	}
	p.describing, _ = made.(profile.Describing)
	p.remembering, _ = made.(profile.Remembering)
	p.timely, _ = made.(profile.Timely)
	p.strange.init(strangers)
	return p, nil
}

// run serves the broker until ctx ends; then it settles what it can and says
// goodbye to the broker, which keeps the session.
func (b *broker) run(ctx context.Context) {
	b.mu.Lock()
	b.recall()
	b.replayEarly()
	b.mu.Unlock()
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	b.desk.start(working, &wait)
	wait.Go(func() { b.work(working) })
	if b.upstream != nil {
		wait.Go(func() { b.upstream.run(ctx) })
	}
	if b.cfg.Publish != nil || len(b.conn.filters) > 0 {
		b.conn.run(ctx, b.settleAll)
	} else {
		<-ctx.Done()
	}
	b.leaveAll(hubStopped)
	stop()
	wait.Wait()
	if err := errors.Join(b.repeats.close(), b.owntimes.close(), b.marks.close()); err != nil {
		b.log.Warn("memory of redeliveries, times or markers could not be closed", "error", err)
	}
	if err := errors.Join(b.early.journal.close(), b.remembered.journal.close()); err != nil {
		b.log.Warn("journal of early messages or memories could not be closed", "error", err)
	}
}
