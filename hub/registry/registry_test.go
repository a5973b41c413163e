package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/natsd"
	"github.com/tetherline/tetherline/hub/registry"
)

func TestMain(m *testing.M) {
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
	node, err := natsd.Start(testContext(t), natsd.Config{Dir: dir, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, node) })
	return node
}

func stopNode(t testing.TB, node *natsd.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := node.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func open(t testing.TB, js jetstream.JetStream) *registry.Registry {
	t.Helper()
	r, err := registry.Open(testContext(t), js, registry.Config{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func newRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	return open(t, startNode(t, t.TempDir()).JetStream())
}

func newDevice(id string, labels ...string) registry.NewDevice {
	n := registry.NewDevice{ID: id, KeyID: "k1", Labels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	return n
}

func create(t testing.TB, r *registry.Registry, n registry.NewDevice) *registry.Device {
	t.Helper()
	d, err := r.Create(testContext(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 min: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestDeviceLife(t *testing.T) {
	r := newRegistry(t)
	ctx := testContext(t)
	made := create(t, r, newDevice("pump-1", "site", "north"))
	if made.Generation != 1 || made.Kind != registry.KindDevice || made.Revision == 0 || made.Created.IsZero() {
		t.Fatalf("new device: %+v", made)
	}
	got, ok := r.Get("pump-1")
	if !ok || !reflect.DeepEqual(got, made) {
		t.Fatalf("Get = %+v, %v; want %+v", got, ok, made)
	}
	if _, err := r.Create(ctx, newDevice("pump-1")); !errors.Is(err, registry.ErrExists) {
		t.Errorf("second Create = %v, want ErrExists", err)
	}
	changed, err := r.Update(ctx, "pump-1", func(d *registry.Device) error {
		d.Labels["site"] = "south"
		d.Disabled = true
		return nil
	})
	if err != nil || changed.Labels["site"] != "south" || !changed.Disabled || changed.Revision <= made.Revision {
		t.Fatalf("Update = %+v, %v", changed, err)
	}
	if got.Labels["site"] != "north" {
		t.Error("Update changed a device that was handed out before")
	}
	same, err := r.Update(ctx, "pump-1", func(*registry.Device) error { return nil })
	if err != nil || same.Revision != changed.Revision {
		t.Errorf("Update without a change wrote revision %d after %d, %v", same.Revision, changed.Revision, err)
	}
	if err := r.Delete(ctx, "pump-1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Get("pump-1"); ok || r.Len() != 0 {
		t.Error("deleted device is still there")
	}
	for name, err := range map[string]error{
		"Delete": r.Delete(ctx, "pump-1"),
		"Update": second(r.Update(ctx, "pump-1", func(*registry.Device) error { return nil })),
		"Rotate": second(r.Rotate(ctx, "pump-1", 0)),
	} {
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s of a deleted device = %v, want ErrNotFound", name, err)
		}
	}
}

func second(_ *registry.Device, err error) error { return err }

// A device that is made again under a deleted one's id must not accept any
// credential of the deleted one, even after a restart.
func TestDeletedIDNeverReusesAGeneration(t *testing.T) {
	dir := t.TempDir()
	node := startNode(t, dir)
	r := open(t, node.JetStream())
	ctx := testContext(t)
	create(t, r, newDevice("valve"))
	for range 3 {
		if _, err := r.Rotate(ctx, "valve", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(ctx, "valve"); err != nil {
		t.Fatal(err)
	}
	r.Close()
	stopNode(t, node)

	r = open(t, startNode(t, dir).JetStream())
	again := create(t, r, newDevice("valve"))
	if again.Generation != 5 {
		t.Fatalf("generation %d after the 4 of the deleted device, want 5", again.Generation)
	}
	for g := uint32(0); g < 5; g++ {
		if again.Accepts(g, time.Now()) {
			t.Errorf("the new device accepts generation %d of the deleted one", g)
		}
	}
}

func TestRegistrySurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	node := startNode(t, dir)
	r := open(t, node.JetStream())
	create(t, r, newDevice("a", "site", "north"))
	_, err := r.Update(testContext(t), "a", func(d *registry.Device) error {
		d.Describe = []byte("what it measures")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rotate(testContext(t), "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	want, _ := r.Get("a")
	r.Close()
	stopNode(t, node)
	r = open(t, startNode(t, dir).JetStream())
	if got, ok := r.Get("a"); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
}

func TestUpdatesAtOnceAreAllKept(t *testing.T) {
	node := startNode(t, t.TempDir())
	nodes := []*registry.Registry{open(t, node.JetStream()), open(t, node.JetStream())}
	create(t, nodes[0], newDevice("counter"))
	eventually(t, "the second node knows the device", func() bool { _, ok := nodes[1].Get("counter"); return ok })
	const writers, rounds = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				_, err := nodes[w%2].Update(testContext(t), "counter", func(d *registry.Device) error {
					if d.Labels == nil {
						d.Labels = map[string]string{}
					}
					d.Labels[fmt.Sprintf("w%d-%d", w, i)] = "x"
					return nil
				})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	for i, r := range nodes {
		eventually(t, fmt.Sprintf("every change is kept and known to node %d", i), func() bool {
			d, _ := r.Get("counter")
			return len(d.Labels) == writers*rounds
		})
	}
}

func TestUpdateRefuses(t *testing.T) {
	r := newRegistry(t)
	create(t, r, newDevice("d"))
	for name, change := range map[string]func(*registry.Device){
		"id":         func(d *registry.Device) { d.ID = "e" },
		"kind":       func(d *registry.Device) { d.Kind = registry.KindMQTT },
		"gear":       func(d *registry.Device) { d.Gear = &registry.Gear{Broker: "b", Profile: "p", Name: "n"} },
		"generation": func(d *registry.Device) { d.Generation = 0 },
		"label":      func(d *registry.Device) { d.Labels = map[string]string{"1st": "x"} },
		"created":    func(d *registry.Device) { d.Created = time.Now() },
	} {
		if _, err := r.Update(testContext(t), "d", func(d *registry.Device) error { change(d); return nil }); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("change of %s = %v, want ErrInvalid", name, err)
		}
	}
	mine := errors.New("mine")
	if _, err := r.Update(testContext(t), "d", func(*registry.Device) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error of change = %v", err)
	}
}

func TestOnChangeHearsBothNodesInOrder(t *testing.T) {
	node := startNode(t, t.TempDir())
	here, there := open(t, node.JetStream()), open(t, node.JetStream())
	var mu sync.Mutex
	var heard []string
	cancel := here.OnChange(func(old, new *registry.Device) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case old == nil:
			heard = append(heard, "new "+new.ID)
		case new == nil:
			heard = append(heard, "gone "+old.ID)
		default:
			heard = append(heard, fmt.Sprintf("%s %v>%v", new.ID, old.Disabled, new.Disabled))
		}
	})
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(heard) }
	create(t, here, newDevice("a"))
	if count() != 1 {
		t.Fatal("Create returned before OnChange was called on this node")
	}
	create(t, there, newDevice("b"))
	if _, err := there.Update(testContext(t), "b", func(d *registry.Device) error { d.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := there.Delete(testContext(t), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "changes of the other node", func() bool { return count() == 4 })
	cancel()
	create(t, here, newDevice("c"))
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"new a", "new b", "b false>true", "gone b"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}

func TestListIsSortedFilteredAndPaged(t *testing.T) {
	r := newRegistry(t)
	var all []registry.NewDevice
	for i := range 300 {
		site := "north"
		if i%3 == 0 {
			site = "south"
		}
		all = append(all, newDevice(fmt.Sprintf("dev-%03d", i), "site", site))
	}
	all = append(all, newDevice("Zz"), newDevice("zz-last", "site", "south"))
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, c := range r.CreateMany(testContext(t), all) {
		if c.Err != nil {
			t.Fatal(c.Err)
		}
	}
	south, err := registry.ParseSelector("site=south")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for after := ""; ; {
		page, total := r.List(south, "", after, 30)
		if total != 101 {
			t.Fatalf("total %d after %q, want 101", total, after)
		}
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			ids = append(ids, d.ID)
		}
		after = ids[len(ids)-1]
	}
	if len(ids) != 101 || !slices.IsSorted(ids) || ids[0] != "dev-000" || ids[100] != "zz-last" {
		t.Errorf("%d ids from %s to %s", len(ids), ids[0], ids[len(ids)-1])
	}
	for prefix, want := range map[string]int{"dev-": 300, "dev-29": 10, "z": 1, "Z": 1, "dev-300": 0, "": 302} {
		page, total := r.List(registry.Selector{}, prefix, "", 1000)
		if total != want || len(page) != want {
			t.Errorf("prefix %q: %d of %d, want %d", prefix, len(page), total, want)
		}
	}
	if page, total := r.List(registry.Selector{}, "dev-29", "dev-297", 1); total != 10 || len(page) != 1 || page[0].ID != "dev-298" {
		t.Errorf("prefix and after: %v of %d", page, total)
	}
	for _, id := range []string{"dev-298", "dev-001"} {
		if err := r.Delete(testContext(t), id); err != nil {
			t.Fatal(err)
		}
	}
	create(t, r, newDevice("dev-001"))
	if page, total := r.List(registry.Selector{}, "dev-", "dev-297", 9); total != 299 || len(page) != 1 || page[0].ID != "dev-299" {
		t.Errorf("after a deletion: %v of %d", page, total)
	}
}

func TestCreateMany(t *testing.T) {
	r := newRegistry(t)
	create(t, r, newDevice("taken"))
	batch := []registry.NewDevice{
		newDevice("a"), newDevice("taken"), newDevice("bad id"), newDevice("a"), newDevice("b"),
		newDevice("c", "bad key", "x"), {ID: "nokey"},
	}
	want := []error{nil, registry.ErrExists, registry.ErrInvalid, registry.ErrExists, nil, registry.ErrInvalid, registry.ErrInvalid}
	for i, got := range r.CreateMany(testContext(t), batch) {
		if !errors.Is(got.Err, want[i]) || (got.Err == nil) != (got.Device != nil) {
			t.Errorf("%s: %v, %v; want %v", batch[i].ID, got.Device, got.Err, want[i])
		}
	}
	if r.Len() != 3 {
		t.Errorf("%d devices, want 3", r.Len())
	}
}

// Two nodes that create the same ids at the same time: each id is made once.
func TestCreateAtOnceOnTwoNodes(t *testing.T) {
	node := startNode(t, t.TempDir())
	nodes := []*registry.Registry{open(t, node.JetStream()), open(t, node.JetStream())}
	batch := make([]registry.NewDevice, 200)
	for i := range batch {
		batch[i] = newDevice(fmt.Sprintf("d%d", i))
	}
	outcomes := make([][]registry.Created, 2)
	var wg sync.WaitGroup
	for i, r := range nodes {
		wg.Go(func() { outcomes[i] = r.CreateMany(testContext(t), batch) })
	}
	wg.Wait()
	for i := range batch {
		a, b := outcomes[0][i].Err, outcomes[1][i].Err
		if (a == nil) == (b == nil) {
			t.Fatalf("%s: %v and %v; want one success", batch[i].ID, a, b)
		}
		if err := errors.Join(a, b); !errors.Is(err, registry.ErrExists) {
			t.Fatalf("%s: %v, want ErrExists", batch[i].ID, err)
		}
	}
}
