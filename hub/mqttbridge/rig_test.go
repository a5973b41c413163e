package mqttbridge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// rig is what the bridge works with, of real parts.
type rig struct {
	t        testing.TB
	dir      string
	node     *natsd.Node
	registry *registry.Registry
	buffer   *jsbuffer.Buffer
	live     *live.Table
	commands *commands.Dispatcher

	full atomic.Bool // the buffer takes nothing

	embedded *Embedded              // nil: the node is no broker
	faults   atomic.Pointer[Bridge] // the last one, which is told of the broker's clients

	mu   sync.Mutex
	rows []telemetry.Row
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigWith(t, natsd.Config{})
}

func newRigWith(t testing.TB, cfg natsd.Config) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	ctx := t.Context()
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg.Dir, cfg.Name, cfg.Logger = filepath.Join(r.dir, "nats"), "test", quiet()
	r.node, err = natsd.Start(ctx, cfg)
	check()
	r.atEnd(r.node.Stop)
	r.registry, err = registry.Open(ctx, r.node.JetStream(), registry.Config{Logger: quiet()})
	check()
	t.Cleanup(r.registry.Close)
	quarantine, err := jsbuffer.OpenQuarantine(ctx, r.node.JetStream(), jsbuffer.QuarantineConfig{})
	check()
	r.buffer, err = jsbuffer.Open(ctx, r.node.JetStream(), r.node.Conn(), jsbuffer.Config{Quarantine: quarantine, Sole: true, Logger: quiet()})
	check()
	r.atEnd(r.buffer.Close)
	r.run(r.collect)
	r.live, err = live.New(ctx, live.Config{Conn: r.node.Conn(), JetStream: r.node.JetStream(), Registry: r.registry, Node: "test", Logger: quiet()})
	check()
	r.run(r.live.Run)
	store, err := jsstore.New(ctx, jsstore.Config{Conn: r.node.Conn(), Logger: quiet()})
	check()
	r.commands, err = commands.New(commands.Config{Node: "test", Store: store, Devices: everyDevice{r.registry}, Sender: r.live, Logger: quiet()})
	check()
	r.run(func(ctx context.Context) { _ = r.commands.Run(ctx) })
	return r
}

// run f until the test ends.
func (r *rig) run(f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f(ctx) }()
	stop = func() { cancel(); <-ended }
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) atEnd(f func(ctx context.Context) error) {
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := f(ctx); err != nil {
			r.t.Error(err)
		}
	})
}

// Append implements telemetry.Buffer.
func (r *rig) Append(e telemetry.Entry, seq uint64, to telemetry.Acker) error {
	if r.full.Load() {
		return telemetry.ErrFull
	}
	return r.buffer.Append(e, seq, to)
}

// Pressure implements telemetry.Buffer.
func (r *rig) Pressure() telemetry.Pressure { return r.buffer.Pressure() }

// collect takes what is durable out of the buffer, as the pump does.
func (r *rig) collect(ctx context.Context) {
	for {
		chunks, err := r.buffer.Fetch(ctx, 16)
		if err != nil {
			return
		}
		for _, c := range chunks {
			err := wire.Rows(telemetry.NewBatch(c.Entries()), func(row *telemetry.Row) error {
				k := *row
				k.Device, k.Labels, k.Measurement = strings.Clone(k.Device), strings.Clone(k.Labels), strings.Clone(k.Measurement)
				k.Fields = nil
				for _, f := range row.Fields {
					v := f.Value
					if v.Kind() == telemetry.String {
						v = telemetry.StringValue(strings.Clone(v.Str()))
					}
					k.Fields = append(k.Fields, telemetry.Field{Name: strings.Clone(f.Name), Value: v})
				}
				r.mu.Lock()
				r.rows = append(r.rows, k)
				r.mu.Unlock()
				return nil
			})
			if err != nil {
				r.t.Error(err)
			}
			_ = c.Done(ctx)
		}
	}
}

// stored are the rows of a device, as text, in the order they came.
func (r *rig) stored(device string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, row := range r.rows {
		if row.Device != device {
			continue
		}
		text := row.Measurement
		for _, f := range row.Fields {
			text += fmt.Sprintf(" %s=%s", f.Name, valueText(f.Value))
		}
		out = append(out, text)
	}
	return out
}

func (r *rig) all() []telemetry.Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows)
}

func valueText(v telemetry.Value) string {
	switch v.Kind() {
	case telemetry.Int:
		return fmt.Sprintf("%di", v.Int64())
	case telemetry.Bool:
		return fmt.Sprint(v.Bool())
	case telemetry.String:
		return fmt.Sprintf("%q", v.Str())
	}
	return fmt.Sprint(v.Float64())
}

// bridge runs one with the config of that text, in which BROKER stands for the
// URL, until the test or stop ends it.
func (r *rig) bridge(url, text string) (b *Bridge, stop func()) {
	r.t.Helper()
	return r.bridgeWith(url, text, func(*Deps) {})
}

func (r *rig) bridgeWith(url, text string, change func(*Deps)) (b *Bridge, stop func()) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "bridge.yaml")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\t", "  "), "BROKER", url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		r.t.Fatal(err)
	}
	deps := Deps{
		Registry: r.registry, KeyID: func() string { return "k1" }, Buffer: r, Tail: r.buffer, Live: r.live, Commands: r.commands,
		JetStream: r.node.JetStream(), Node: "test", Dir: filepath.Join(r.dir, "bridge"), Logger: quiet(),
		Embedded: r.embedded,
	}
	change(&deps)
	if b, err = New(cfg, deps); err != nil {
		r.t.Fatal(err)
	}
	r.faults.Store(b)
	for _, br := range b.brokers {
		br.conn.pauses = [2]time.Duration{10 * time.Millisecond, 100 * time.Millisecond}
		br.lateTime = 100 * time.Millisecond
	}
	stop = r.run(func(ctx context.Context) {
		if err := b.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	return b, stop
}

// up waits until all brokers are connected.
func up(t testing.TB, b *Bridge) {
	t.Helper()
	eventually(t, "the brokers are connected", func() bool {
		return !slices.ContainsFunc(b.Brokers(), func(s BrokerStatus) bool { return !s.Connected })
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(mqtttest.Patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, mqtttest.Patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// wantStored waits for the rows of a device, as stored tells them.
func (r *rig) wantStored(device string, want ...string) {
	r.t.Helper()
	var got []string
	for deadline := time.Now().Add(mqtttest.Patience); ; {
		if got = r.stored(device); len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
		time.Sleep(2 * time.Millisecond) // between polls with a deadline
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("rows of %s:\n%q\nwant:\n%q", device, got, want)
	}
}

// device is made by an operator, beside the bridge.
func (r *rig) device(n registry.NewDevice) {
	r.t.Helper()
	n.KeyID = "k1"
	if _, err := r.registry.Create(r.t.Context(), n); err != nil {
		r.t.Fatal(err)
	}
}

// problem is the broker's problem of that reason; the zero Problem: there is
// none.
func (b *Bridge) problemOf(reason string) Problem {
	for _, s := range b.Brokers() {
		for _, p := range s.Problems {
			if p.Reason == reason {
				return p
			}
		}
	}
	return Problem{}
}

func wantProblem(t testing.TB, b *Bridge, reason string) Problem {
	t.Helper()
	var p Problem
	eventually(t, "problem "+reason, func() bool { p = b.problemOf(reason); return p.Count > 0 })
	return p
}

// seen is gear of that profile and name.
func (b *Bridge) seenGear(profile, name string) (SeenGear, bool) {
	for _, g := range b.Gear("") {
		if g.Gear.Profile == profile && g.Gear.Name == name {
			return g, true
		}
	}
	return SeenGear{}, false
}

type everyDevice struct{ registry *registry.Registry }

func (e everyDevice) CheckDevice(_ context.Context, id string) error {
	if _, ok := e.registry.Get(id); !ok {
		return commands.ErrUnknownDevice
	}
	return nil
}

func (e everyDevice) Registration(id string) string {
	d, ok := e.registry.Get(id)
	if !ok {
		return ""
	}
	return d.Created.String()
}

func (e everyDevice) Refresh(ctx context.Context, id string) error {
	return e.registry.Refresh(ctx, id)
}

func (e everyDevice) SelectDevices(context.Context, string) ([]string, error) { return nil, nil }
