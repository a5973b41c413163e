package registry

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/natsd"
)

// handedOn is what a mirror has handed on.
type handedOn struct {
	mu      sync.Mutex
	present map[string]string
	last    uint64
	wrong   []string
}

func (h *handedOn) apply(key string, value []byte, revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if revision <= h.last {
		h.wrong = append(h.wrong, fmt.Sprintf("%s: revision %d after %d", key, revision, h.last))
	}
	h.last = revision
	if value == nil {
		delete(h.present, key)
		return
	}
	h.present[key] = string(value)
}

func (h *handedOn) loaded() {}

func (h *handedOn) keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var keys []string
	for key := range h.present {
		keys = append(keys, key)
	}
	return keys
}

func (h *handedOn) is(want map[string]string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Equal(h.present, want)
}

// The watch dies again and again while keys come, change and go. Each change is
// handed on once and in order, however it came, and none is missing in the end.
func TestChangesComeOnceHoweverOftenTheWatchDies(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	quiet := slog.New(slog.DiscardHandler)
	node, err := natsd.Start(ctx, natsd.Config{Dir: t.TempDir(), Name: "one", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	kv, err := node.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "test"})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := node.JetStream().Stream(ctx, "KV_test")
	if err != nil {
		t.Fatal(err)
	}
	owner := &handedOn{present: map[string]string{}}
	m := newMirror(node.Conn(), kv, true, owner, quiet)
	running, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { m.run(running) })
	following.Go(func() { m.keepUp(running) })
	following.Go(func() { m.poll(running) })
	defer func() { stop(); following.Wait() }()
	<-m.synced
	want := map[string]string{}
	for death := range 3 {
		kill := rand.N(50)
		for i := range 50 {
			if i == kill {
				for name := range stream.ConsumerNames(ctx).Name() {
					_ = stream.DeleteConsumer(ctx, name) // or it is gone already
				}
			}
			key := fmt.Sprint(rand.N(20))
			if rand.N(3) == 0 {
				delete(want, key)
				err = kv.Delete(ctx, key)
			} else {
				want[key] = fmt.Sprint(death, "-", i)
				_, err = kv.PutString(ctx, key, want[key])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		await(t, "all changes are there", func() bool { return owner.is(want) })
		await(t, "the watch brings changes again", func() bool {
			if _, err := kv.PutString(ctx, "now", "here"); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.listening && m.brought >= m.missed && m.brought > 0
		})
		want["now"] = "here"
	}
	await(t, "all is there", func() bool { return owner.is(want) })
	owner.mu.Lock()
	defer owner.mu.Unlock()
	for _, wrong := range owner.wrong {
		t.Error(wrong)
	}
}
