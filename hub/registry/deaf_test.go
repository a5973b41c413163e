package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/natsd/natstest"
)

// deafJetStream is one whose watches bring nothing more once deaf is set, as
// where the server that they are on has died; nobody makes others, as where
// that server is chosen again, until again is closed.
type deafJetStream struct {
	jetstream.JetStream
	deaf    atomic.Bool
	again   chan struct{}
	watches atomic.Int64
}

func (j *deafJetStream) CreateOrUpdateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := j.JetStream.CreateOrUpdateKeyValue(ctx, cfg)
	return deafBucket{kv, j}, err
}

type deafBucket struct {
	jetstream.KeyValue
	js *deafJetStream
}

func (b deafBucket) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	b.js.watches.Add(1)
	well := false
	select {
	case <-b.js.again:
		well = true
	default:
		if b.js.deaf.Load() {
			select {
			case <-ctx.Done():
			case <-b.js.again:
			}
			return nil, errors.New("no server has answered")
		}
	}
	w, err := b.KeyValue.WatchAll(ctx, opts...)
	if err != nil || well {
		return w, err
	}
	out := &earlyWatch{KeyWatcher: w, updates: make(chan jetstream.KeyValueEntry, 64)}
	go func() {
		defer close(out.updates)
		for entry := range w.Updates() {
			if !b.js.deaf.Load() {
				out.updates <- entry
			}
		}
	}()
	return out, nil
}

// openNode is a registry with a connection of its own.
func openNode(t *testing.T, url string, wrap func(jetstream.JetStream) jetstream.JetStream) *Registry {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(soon(t), wrap(js), Config{Replicas: 3, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func plain(js jetstream.JetStream) jetstream.JetStream { return js }

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The server dies that has a node's watches, and no other makes new ones: what
// another node revokes ends here all the same, and so does everything else that
// changes.
func TestDeafNodeSeesWhatOthersChange(t *testing.T) {
	servers := natstest.Cluster(t)
	a := openNode(t, servers[0].ClientURL(), plain)
	deaf := &deafJetStream{again: make(chan struct{})}
	b := openNode(t, servers[1].ClientURL(), func(js jetstream.JetStream) jetstream.JetStream {
		deaf.JetStream = js
		return deaf
	})
	ctx := soon(t)
	for _, id := range []string{"disabled", "deleted"} {
		if _, err := a.Create(ctx, NewDevice{ID: id, KeyID: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	_, token, err := a.CreateOperator(ctx, "gone", RoleOperator, Selector{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the other node knows them", func() bool {
		_, ok := b.Authenticate(token)
		return ok && b.Len() == 2
	})
	var order sync.Mutex
	var revisions []uint64
	b.OnChange(func(_, dev *Device) {
		if dev != nil {
			order.Lock()
			defer order.Unlock()
			revisions = append(revisions, dev.Revision)
		}
	})

	deaf.deaf.Store(true)
	if err := a.DeleteOperator(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Update(ctx, "disabled", func(d *Device) error { d.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	await(t, "the token is dead", func() bool { _, ok := b.Authenticate(token); return !ok })
	await(t, "the device is disabled", func() bool { d, ok := b.Get("disabled"); return ok && d.Disabled })
	await(t, "the device is gone", func() bool { _, ok := b.Get("deleted"); return !ok })

	// It writes too, over what it has not heard by its watch.
	if _, err := b.Update(ctx, "disabled", func(d *Device) error { d.Note = "seen"; return nil }); err != nil {
		t.Errorf("a deaf node cannot write: %v", err)
	}
	for i := range 300 {
		if _, err := a.Create(ctx, NewDevice{ID: fmt.Sprint("more-", i), KeyID: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all new devices are known", func() bool { return b.Len() == 301 })

	// New watches bring everything again: nothing is lost or comes back.
	before := deaf.watches.Load()
	close(deaf.again)
	await(t, "the node watches again", func() bool {
		return deaf.watches.Load() > before && b.deviceMirror.hears() && b.operatorsMirror.hears()
	})
	if err := b.Check(); err != nil {
		t.Errorf("the node is well, and says %v", err)
	}
	if _, ok := b.Authenticate(token); ok {
		t.Error("the operator is back")
	}
	if _, ok := b.Get("deleted"); ok || b.Len() != 301 {
		t.Errorf("%d devices after the new watch; deleted one: %v", b.Len(), ok)
	}
	order.Lock()
	defer order.Unlock()
	for i := 1; i < len(revisions); i++ {
		if revisions[i] <= revisions[i-1] {
			t.Fatalf("change %d came after %d", revisions[i], revisions[i-1])
		}
	}
}

func (m *mirror) hears() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listening
}

// A change that nobody tells of, as where the message or the answer to the
// writer was lost, is found by asking; and one that is told is not waited for.
func TestDeafMirrorIsToldOrAsks(t *testing.T) {
	servers := natstest.Cluster(t)
	conn, err := nats.Connect(servers[0].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for name, every := range map[string]time.Duration{"told": time.Hour, "asks": pollEvery} {
		deaf := &deafJetStream{JetStream: js, again: make(chan struct{})}
		kv, err := deaf.CreateOrUpdateKeyValue(soon(t), jetstream.KeyValueConfig{Bucket: name, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		owner := &operators{}
		owner.init(slog.New(slog.DiscardHandler))
		m := newMirror(conn, kv, true, owner, slog.New(slog.DiscardHandler))
		m.pollEvery = every
		unlisten, err := m.listen()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(soon(t))
		var running sync.WaitGroup
		running.Go(func() { m.run(ctx) })
		running.Go(func() { m.keepUp(ctx) })
		running.Go(func() { m.poll(ctx) })
		<-m.synced
		deaf.deaf.Store(true)
		value, err := encodeOperator(Operator{Name: "ann", Role: RoleViewer}, tokenHash{})
		if err != nil {
			t.Fatal(err)
		}
		revision, err := kv.Put(ctx, operatorKey("ann"), value)
		if err != nil {
			t.Fatal(err)
		}
		if name == "told" {
			other := newMirror(conn, kv, true, owner, slog.New(slog.DiscardHandler))
			other.tell(revision)
		}
		await(t, name+": the change is known", func() bool { return m.revision() >= revision && len(owner.keys()) == 1 })
		if err := kv.Delete(ctx, operatorKey("ann")); err != nil {
			t.Fatal(err)
		}
		if name == "told" {
			m.tell(revision + 1)
		}
		await(t, name+": the deletion is known", func() bool { return len(owner.keys()) == 0 })
		stop()
		running.Wait()
		unlisten()
		if err := m.wait(soon(t), revision+2); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: waiting after the end: %v", name, err)
		}
	}
}
