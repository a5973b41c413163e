package registry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/natsd"
)

// earlyBucket says that a copy is complete after its first value, as the
// library may where keys change meanwhile.
type earlyBucket struct{ jetstream.KeyValue }

func (b earlyBucket) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := b.KeyValue.WatchAll(ctx, opts...)
	if err != nil {
		return nil, err
	}
	early := &earlyWatch{KeyWatcher: w, updates: make(chan jetstream.KeyValueEntry, 64)}
	go func() {
		defer close(early.updates)
		marked := false
		for entry := range w.Updates() {
			if entry == nil {
				continue
			}
			early.updates <- entry
			if !marked {
				marked = true
				early.updates <- nil
			}
		}
	}()
	return early, nil
}

// forgetfulBucket leaves a key out of its copies.
type forgetfulBucket struct {
	jetstream.KeyValue
	key string
}

func (b forgetfulBucket) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := b.KeyValue.WatchAll(ctx, opts...)
	if err != nil {
		return nil, err
	}
	forgetful := &earlyWatch{KeyWatcher: w, updates: make(chan jetstream.KeyValueEntry, 64)}
	go func() {
		defer close(forgetful.updates)
		for entry := range w.Updates() {
			if entry == nil || entry.Key() != b.key {
				forgetful.updates <- entry
			}
		}
	}()
	return forgetful, nil
}

type earlyWatch struct {
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry
}

func (w *earlyWatch) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

// keySet is what a mirror tells its owner. One goroutine uses it.
type keySet struct {
	present map[string]bool
	gone    []string // by calls of apply
	atLoad  []string // present when loaded was called
}

func (k *keySet) apply(key string, value []byte, _ uint64) {
	if value == nil {
		delete(k.present, key)
		k.gone = append(k.gone, key)
		return
	}
	k.present[key] = true
}

func (k *keySet) loaded() { k.atLoad = slices.Sorted(maps.Keys(k.present)) }

func (k *keySet) keys() []string { return slices.Collect(maps.Keys(k.present)) }

// No device is missing from a copy, nor taken for deleted, whatever the
// library says: it would be told that its credential is dead, and stop for
// good. A device that is gone is deleted.
func TestCopyIsComplete(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	node, err := natsd.Start(ctx, natsd.Config{Dir: t.TempDir(), Name: "one", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	kv, err := node.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "test"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first", "late", "later"}
	for _, key := range want {
		if _, err := kv.Put(ctx, key, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		bucket jetstream.KeyValue
		first  bool
	}{
		{"the first copy", earlyBucket{kv}, true},
		{"a copy anew", earlyBucket{kv}, false},
		{"a copy that lacks a key", forgetfulBucket{kv, "late"}, false},
	} {
		owner := &keySet{present: map[string]bool{}}
		if !tt.first {
			owner.present = map[string]bool{"late": true, "later": true, "deleted": true}
		}
		m := newMirror(node.Conn(), tt.bucket, false, owner, quiet)
		watching, stop := context.WithCancel(ctx)
		if err := m.watch(watching, tt.first, stop); watching.Err() == nil {
			t.Fatalf("%s: the watch ended with %v", tt.name, err)
		}
		if !slices.Equal(owner.atLoad, want) {
			t.Errorf("%s holds %v; want %v", tt.name, owner.atLoad, want)
		}
		if deleted := []string{"deleted"}; !tt.first && !slices.Equal(owner.gone, deleted) {
			t.Errorf("%s: taken for deleted: %v; want %v", tt.name, owner.gone, deleted)
		}
	}
}
