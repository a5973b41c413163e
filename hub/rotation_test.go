package hub_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// deviceFile writes the file that a device keeps its credential in.
func deviceFile(t testing.TB, h hubtest.Endpoint, c device.Credential) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.json")
	file := client.File{HubURL: "wss://" + h.Addr + device.Path, DeviceID: c.ID, Credential: c.Encode()}
	if err := file.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func fileCredentials(t testing.TB, path string) client.Credentials {
	t.Helper()
	f, err := client.LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantUnauthorized fails unless the hub refuses the credential.
func wantUnauthorized(t testing.TB, h hubtest.Endpoint, c device.Credential) {
	t.Helper()
	p := dialPeer(t, h)
	p.sendHello(c, nil)
	p.wantClose(4500)
}

// A credential is renewed on a live device while it publishes all the time:
// not one row is lost or doubled, the new one is on the device's disk, and
// the old one is worth nothing any more.
func TestRotationOnALiveDevice(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	first := h.CreateDevice(t, "gauge-000")
	path := deviceFile(t, h.Endpoint, first)
	cfg := h.Client(first)
	cfg.Credentials = client.NewFileStore(path)
	g := &gauge{id: first.ID}
	var stop func() error
	g.Client, stop = hubtest.Run(t, cfg)
	g.stop = stop
	busy := &flock{gauges: []*gauge{g}}
	busy.publish(t, time.Millisecond)
	busy.awaitAcks(t, []int{0})

	const times = 3
	used := []device.Credential{first}
	for range times {
		next, handedOver := rotate(t, h.Endpoint, first.ID, nil)
		if !handedOver {
			t.Fatal("not handed over to a device that is connected")
		}
		hubtest.Eventually(t, "the device has proved the next generation", func() bool {
			d := getDevice(t, h.Endpoint, first.ID)
			return d.Generation == next.Generation && d.RetiringGeneration == 0 && g.Stats().Generation == next.Generation
		})
		if kept := fileCredentials(t, path); kept.Current != next || kept.Next != nil {
			t.Errorf("the device's file holds %v and %v; want %v alone", kept.Current, kept.Next, next)
		}
		busy.awaitAcks(t, busy.acked())
		used = append(used, next)
	}
	for _, c := range used[:times] {
		wantUnauthorized(t, h.Endpoint, c)
	}
	wantAllStored(t, h.Endpoint, busy)
	if st := g.Stats(); st.Sessions != times+1 {
		t.Errorf("%d sessions; want one for each credential, %d", st.Sessions, times+1)
	}
	// The device is started anew with what is in its file.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again := h.Client(first)
	again.Credentials = client.NewFileStore(path)
	c, _ := hubtest.Run(t, again)
	hubtest.Eventually(t, "online with the credential of the file", func() bool { return c.State() == client.Online })
}

// A device with no place to keep another credential goes on with its old one
// for the grace, and then its operator has brought the next one by hand.
func TestRotationByHand(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	old := h.CreateDevice(t, "away")
	next, handedOver := rotate(t, h.Endpoint, "away", durationpb.New(time.Hour))
	if handedOver {
		t.Error("handed over to nobody")
	}
	cfg := h.Client(old)
	cfg.Credentials, cfg.Credential = nil, old
	c, stop := hubtest.Run(t, cfg)
	hubtest.Eventually(t, "the old credential works in its grace", func() bool { return c.State() == client.Online })
	if d := getDevice(t, h.Endpoint, "away"); d.RetiringGeneration != old.Generation || d.RetiringUntil == nil {
		t.Errorf("retiring %d until %v; want generation %d", d.RetiringGeneration, d.RetiringUntil, old.Generation)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c, _ = hubtest.Run(t, h.Client(next))
	hubtest.Eventually(t, "the next one works", func() bool { return c.State() == client.Online })
	hubtest.Eventually(t, "the old one is over", func() bool { return getDevice(t, h.Endpoint, "away").RetiringGeneration == 0 })
	wantUnauthorized(t, h.Endpoint, old)
}

// Without grace the present session ends, and the credential with it; so it
// does when a short grace is over.
func TestRotationWithoutGraceEndsTheSession(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	for id, grace := range map[string]time.Duration{"stolen": 0, "late": 1500 * time.Millisecond} {
		old := h.CreateDevice(t, id)
		cfg := h.Client(old)
		cfg.Credentials, cfg.Credential = nil, old // it has no place for another
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
		began := time.Now()
		_, handedOver := rotate(t, h.Endpoint, id, durationpb.New(grace))
		if handedOver != (grace > 0) {
			t.Errorf("%s: handed over %v", id, handedOver)
		}
		select {
		case err := <-ended:
			t.Logf("%s: ended after %v", id, time.Since(began).Round(time.Millisecond))
			if !errors.Is(err, client.ErrUnauthorized) || time.Since(began) < grace {
				t.Errorf("%s: Run returns %v after %v", id, err, time.Since(began))
			}
		case <-time.After(hubtest.Patience):
			t.Fatalf("%s goes on with a dead credential", id)
		}
		hubtest.Eventually(t, "presence tells", func() bool {
			p := getDevice(t, h.Endpoint, id).Presence
			return !p.GetOnline() && p.GetReason() == "credential superseded"
		})
	}
}
