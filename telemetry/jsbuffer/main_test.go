package jsbuffer_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
	"github.com/tetherline/tetherline/telemetry/wire"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crash(dir)
	}
	goleak.VerifyTestMain(m,
		// One ticker a process, started by the server's package.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startNode(t testing.TB, dir string) *natsd.Node {
	t.Helper()
	node, err := natsd.Start(testContext(t), natsd.Config{Dir: dir, Name: "test", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Errorf("stop nats: %v", err)
		}
	})
	return node
}

// open starts NATS and a buffer with its quarantine on it.
func open(t testing.TB, cfg jsbuffer.Config) (*jsbuffer.Buffer, *jsbuffer.Quarantine) {
	t.Helper()
	return openOn(t, startNode(t, t.TempDir()), cfg)
}

func openOn(t testing.TB, node *natsd.Node, cfg jsbuffer.Config) (*jsbuffer.Buffer, *jsbuffer.Quarantine) {
	t.Helper()
	ctx := testContext(t)
	quarantine, err := jsbuffer.OpenQuarantine(ctx, node.JetStream(), jsbuffer.QuarantineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Quarantine = quarantine
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	buffer, err := jsbuffer.Open(ctx, node.JetStream(), node.Conn(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = buffer.Close(ctx) // a test that cares has closed it before
	})
	return buffer, quarantine
}

// entry of n rows, one second apart, with values that count from first.
func entry(t testing.TB, device string, first, n int) telemetry.Entry {
	t.Helper()
	rows := make([]telemetry.Row, n)
	for i := range rows {
		rows[i] = telemetry.Row{
			Device: device, Measurement: telemetry.DefaultMeasurement,
			Time:   int64(1_700_000_000+first+i) * 1e9,
			Fields: []telemetry.Field{{Name: "value", Value: telemetry.IntValue(int64(first + i))}},
		}
	}
	msg, err := wire.Encode(1, rows)
	if err != nil {
		t.Fatal(err)
	}
	return telemetry.Entry{Device: device, Labels: ",site=north", Received: 1_700_000_000e9, Rows: n, Telemetry: msg}
}

// sized is an entry whose Telemetry is n bytes of no meaning.
func sized(device string, n int) telemetry.Entry {
	return telemetry.Entry{Device: device, Received: 1, Rows: 1, Telemetry: make([]byte, n)}
}

// ledger is an Acker that keeps what it hears.
type ledger struct {
	mu   sync.Mutex
	seqs []uint64
	more chan struct{}
}

func newLedger() *ledger { return &ledger{more: make(chan struct{}, 1)} }

func (l *ledger) Durable(seq uint64) {
	l.mu.Lock()
	l.seqs = append(l.seqs, seq)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *ledger) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seqs) == 0 {
		return 0
	}
	return l.seqs[len(l.seqs)-1]
}

func (l *ledger) wait(t testing.TB, seq uint64) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for l.last() < seq {
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("durable up to %d after 2 min; want %d", l.last(), seq)
		}
	}
}

// drain takes chunks out of the buffer until n entries came, and returns them.
func drain(t testing.TB, b *jsbuffer.Buffer, n int) []telemetry.Entry {
	t.Helper()
	ctx := testContext(t)
	var entries []telemetry.Entry
	for len(entries) < n {
		chunks, err := b.Fetch(ctx, 16)
		if err != nil {
			t.Fatalf("fetch after %d of %d entries: %v", len(entries), n, err)
		}
		for _, c := range chunks {
			entries = append(entries, c.Entries()...)
			if err := c.Done(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	return entries
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 min: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func deviceName(i int) string { return fmt.Sprintf("device-%d", i) }
