package mqttbridge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// upstream publishes readings and presence of the devices that speak the
// hub's own protocol, to one broker, with a connection of its own: the last
// will of that one says that the hub is away.
//
// Readings go out once, QoS 0, as they become durable; what a slow or absent
// broker does not take is lost to it and counted. Presence and discovery are
// retained, QoS 1: the broker is told them whenever they change, and all of
// them after each connect.
type upstream struct {
	name     string // of the broker
	names    naming
	selector registry.Selector
	retain   bool // readings, too
	dialer   *dialer
	clientID string
	registry *registry.Registry
	live     *live.Table
	tail     Tail
	log      *slog.Logger
	trouble  func(problem)
	pauses   [2]time.Duration

	out       *outgoing
	published atomic.Uint64 // messages
	lost      atomic.Uint64 // readings
}

// newUpstream of a broker whose config has Publish and has been checked.
// trouble is told what is wrong; it may be called from several goroutines.
func newUpstream(b *BrokerConfig, deps *Deps, trouble func(problem)) (*upstream, error) {
	selector, err := registry.ParseSelector(b.Publish.Selector)
	if err != nil {
		return nil, fmt.Errorf("publish: selector: %w", err)
	}
	d, err := newDialer(b, deps.Embedded)
	if err != nil {
		return nil, err
	}
	if deps.Tail == nil {
		return nil, fmt.Errorf("publish: Tail is needed")
	}
	return &upstream{
		name: b.Name, names: newNaming(b.Publish), selector: selector, retain: b.Publish.Retain, dialer: d,
		clientID: cmp.Or(b.ClientID, "tetherline-"+deps.Node+"-"+b.Name) + "-up",
		registry: deps.Registry, live: deps.Live, tail: deps.Tail, trouble: trouble,
		log: deps.Logger.With("broker", b.Name), pauses: [2]time.Duration{firstPause, lastPause},
		out: newOutgoing(),
	}, nil
}

// run publishes until ctx ends; then the hub is marked as away.
func (u *upstream) run(ctx context.Context) {
	defer u.registry.OnChange(u.onChange)()
	working, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { u.followRows(working) })
	wait.Go(func() { u.followPresence(working) })
	wait.Go(func() { u.countLosses(working) })
	u.connect(ctx)
	stop()
	wait.Wait()
}

// connect keeps a connection while ctx lasts.
func (u *upstream) connect(ctx context.Context) {
	pause, last := u.pauses[0], ""
	for ctx.Err() == nil {
		began := time.Now()
		err := u.session(ctx)
		if ctx.Err() != nil {
			return
		}
		u.trouble(problem{reason: "readings cannot be published", detail: err.Error()})
		if err.Error() != last {
			last = err.Error()
			u.log.Warn("not connected to the MQTT broker for publishing; trying again", "error", err)
		}
		if time.Since(began) > settleTime {
			pause = u.pauses[0]
		}
		wait(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, u.pauses[1])
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// onChange is told by the registry, and must not wait.
func (u *upstream) onChange(old, new *registry.Device) {
	before := publishedUpstream(old, u.selector)
	if !before && !publishedUpstream(new, u.selector) {
		return
	}
	id, topics := "", map[string]struct{}(nil)
	if new != nil {
		id = new.ID
	}
	if before {
		id, topics = old.ID, u.retained(old)
	}
	u.out.deviceChanged(id, topics)
}

// retained are the retained topics that a device has.
func (u *upstream) retained(d *registry.Device) map[string]struct{} {
	topics := map[string]struct{}{u.names.availability(d.ID): {}}
	for topic := range u.names.configs(d) {
		topics[topic] = struct{}{}
	}
	if u.retain {
		topics[u.names.readings(d.ID, telemetry.DefaultMeasurement)] = struct{}{}
		for _, f := range describeOf(d).GetFields() {
			topics[u.names.readings(d.ID, measurementName(f.GetMeasurement()))] = struct{}{}
		}
	}
	return topics
}

// followPresence notes devices whose presence has changed.
func (u *upstream) followPresence(ctx context.Context) {
	_ = u.live.Watch(ctx, func(e live.Event) error {
		if d, ok := u.registry.Get(e.Device); ok && publishedUpstream(d, u.selector) {
			u.out.deviceChanged(e.Device, nil)
		}
		return nil
	})
}

// followRows queues the readings of the devices as they become durable.
func (u *upstream) followRows(ctx context.Context) {
	for ctx.Err() == nil {
		err := u.tail.Tail(ctx, func(entries []telemetry.Entry, missed uint64) {
			if missed > 0 {
				u.out.miss(missed) // chunks of one row at least
			}
			for i := range entries {
				u.queue(&entries[i])
			}
		})
		if ctx.Err() != nil {
			return
		}
		u.trouble(problem{reason: "stream of readings broke off", detail: fmt.Sprint(err)})
		wait(ctx, u.pauses[0])
	}
}

func (u *upstream) queue(e *telemetry.Entry) {
	if d, ok := u.registry.Get(e.Device); !ok || !publishedUpstream(d, u.selector) {
		return
	}
	err := wire.Rows(telemetry.NewBatch([]telemetry.Entry{*e}), func(row *telemetry.Row) error {
		u.out.put(reading{topic: strings.Clone(u.names.readings(row.Device, row.Measurement)), payload: rowPayload(row)})
		return nil
	})
	if err != nil {
		u.trouble(problem{reason: "reading cannot be decoded", gear: e.Device, detail: err.Error()})
	}
}

// countLosses tells of lost readings, once a second at most.
func (u *upstream) countLosses(ctx context.Context) {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if n := u.out.takeLost(); n > 0 {
			u.trouble(problem{reason: "readings not published",
				detail: fmt.Sprintf("%d since the hub started: the broker was away or too slow; they are in the store", u.lost.Add(n))})
		}
	}
}

// wanted are the retained messages that a device has now; nil: none.
func (u *upstream) wanted(id string) map[string][]byte {
	d, ok := u.registry.Get(id)
	if !ok || !publishedUpstream(d, u.selector) {
		return nil
	}
	state := offline
	if u.live.Presence(id).Online {
		state = online
	}
	wanted := map[string][]byte{u.names.availability(id): []byte(state)}
	maps.Copy(wanted, u.names.configs(d))
	return wanted
}
