package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// revoked is how an operator ends a device's access, and what it hears.
var revoked = map[string]struct {
	revoke func(t testing.TB, h hubtest.Endpoint, id string)
	want   error
}{
	"disabled": {func(t testing.TB, h hubtest.Endpoint, id string) { enable(t, h, id, false) }, client.ErrDisabled},
	"deleted":  {remove, client.ErrUnauthorized},
}

// Promise 10: revocation closes the live socket at once, while others go on.
func TestRevocationClosesTheLiveSocket(t *testing.T) {
	h := hubtest.Start(t, hubtest.Config(t))
	honest := newFlock(t, h.Endpoint, 2, nil)
	honest.publish(t, 5*time.Millisecond)
	credentials := make(map[string]device.Credential)
	for id, tt := range revoked {
		credentials[id] = h.CreateDevice(t, id)
		c, err := client.New(h.Client(credentials[id]))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
		began := time.Now()
		tt.revoke(t, h.Endpoint, id)
		select {
		case err = <-ended:
		case <-time.After(hubtest.Patience):
			t.Fatalf("%s: is never closed", id)
		}
		took := time.Since(began)
		t.Logf("%s: the device knew after %v", id, took.Round(time.Millisecond))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Run returns %v; want %v", id, err, tt.want)
		}
		hubtest.Eventually(t, "its socket is gone", func() bool { return h.Hub.Online() == len(honest.gauges) })
	}
	wantSteady(t, honest)
	wantAllStored(t, h.Endpoint, honest)

	// Enabled again it comes back with the credential it has.
	if p := getDevice(t, h.Endpoint, "disabled").Presence; p.GetOnline() || p.GetReason() != "disabled by an operator" {
		t.Errorf("presence of the disabled device is %v", p)
	}
	enable(t, h.Endpoint, "disabled", true)
	c, _ := hubtest.Run(t, h.Client(credentials["disabled"]))
	hubtest.Eventually(t, "the enabled device is back", func() bool { return c.State() == client.Online })
}

// Within a second, and on every node, whichever of them the operator asked.
// The best of three counts, or of more: the machine is not the hub's alone.
func TestRevocationTakesASecondOnEveryNode(t *testing.T) {
	a, b := twoNodes(t)
	for _, at := range []*hubtest.Hub{a, b} {
		for name, tt := range revoked {
			best := hubtest.Patience
			for try := 0; try < 3 || best > time.Second && try < 20; try++ {
				id := fmt.Sprintf("%s-%d-%s", name, try, strings.TrimPrefix(at.Addr, "127.0.0.1:"))
				credential := a.CreateDevice(t, id)
				hubtest.Eventually(t, "the other node knows the device", func() bool {
					_, err := b.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: id}))
					return err == nil
				})
				c, err := client.New(at.Client(credential))
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- c.Run(t.Context()) }()
				hubtest.Eventually(t, "online", func() bool { return c.State() == client.Online })
				began := time.Now()
				tt.revoke(t, a.Endpoint, id)
				select {
				case err = <-ended:
				case <-time.After(hubtest.Patience):
					t.Fatalf("%s: is never closed", id)
				}
				best = min(best, time.Since(began))
				if !errors.Is(err, tt.want) {
					t.Errorf("%s: Run returns %v; want %v", id, err, tt.want)
				}
			}
			if best > time.Second {
				t.Errorf("%s at %s: closed after %v; want within a second", name, at.Addr, best)
			}
			t.Logf("%s at %s: the device knew after %v", name, at.Addr, best.Round(time.Millisecond))
		}
	}
}
