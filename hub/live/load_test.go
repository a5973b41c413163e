package live_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/live"
)

// lateJetStream is one whose first watch nobody begins, as where the cluster
// gives it to a server that has just died.
type lateJetStream struct {
	jetstream.JetStream
	watches atomic.Int64
}

type lateBucket struct {
	jetstream.KeyValue
	js *lateJetStream
}

func (j *lateJetStream) CreateOrUpdateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := j.JetStream.CreateOrUpdateKeyValue(ctx, cfg)
	return lateBucket{kv, j}, err
}

func (b lateBucket) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	if b.js.watches.Add(1) == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b.KeyValue.WatchAll(ctx, opts...)
}

// A node that starts when a server of the cluster has just died does not wait
// until that one is back, and knows what was saved.
func TestStartsThoughTheServerOfItsWatchIsDead(t *testing.T) {
	t.Parallel()
	s := startSite(t, "a")
	table, stop := s.table("before")
	g := &gear{heard: time.Now()}
	epoch, _, err := table.Enter("a", g, "addr", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	again, err := live.New(testContext(t), live.Config{
		Conn: s.node.Conn(), JetStream: &lateJetStream{JetStream: s.node.JetStream()}, Registry: s.reg, Node: "after",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	defer again.Run(ended)
	if p := again.Presence("a"); p.Epoch != epoch {
		t.Errorf("presence of the device is %+v; want epoch %d", p, epoch)
	}
}
