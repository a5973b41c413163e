//go:build linux

package hub_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/powertest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A device loses power after it has obeyed and before the hub has heard that
// it has the command: the hub sends it again, and it does not run again. Where
// the disk only pretends to sync it does: the test sees what it is for.
func TestPowerLossOfADeviceRunsNothingTwice(t *testing.T) {
	t.Parallel()
	config := hubtest.Config(t)
	h := hubtest.Start(t, config)
	ca, err := os.ReadFile(filepath.Join(config.Data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, options := range map[string]powertest.Options{
		"forgetful": {Forgetful: true},
		"torn":      {Seed: rand.Uint64()},
		"lying":     {Forgetful: true},
	} {
		t.Run(kind, func(t *testing.T) {
			lying := kind == "lying"
			id := "relay-" + kind
			disk := powertest.New(t, options)
			l := newLink(t, h.Addr)
			cfg := hostConfig{
				URL: "wss://" + h.Addr + device.Path, CAPEM: string(ca), Dir: disk.Dir(), Ledgers: t.TempDir(),
				Devices: []hostedDevice{{h.CreateDevice(t, id).Encode(), l.addr()}},
			}
			online := func() bool { return getDevice(t, h.Endpoint, id).Presence.GetOnline() }
			host := startHost(t, cfg)
			t.Cleanup(func() { host.kill() })
			for n := range shortOrLongTimes(3, 30) {
				hubtest.Eventually(t, "the device is online", online)
				disk.Lie(lying)
				l.swallow("upstream")
				key := fmt.Sprintf("%s-%d", id, n)
				send(t, h.Endpoint, id, key, &operatorv1.CommandSpec{Name: "identify"})
				hubtest.Eventually(t, "the device has obeyed", func() bool { return ledgerRuns(t, cfg.Ledgers, id)[key] == 1 })
				host.kill()
				disk.Cut(t)
				l.restore("upstream")
				if err := host.start(); err != nil {
					t.Fatal(err)
				}
				hubtest.Eventually(t, "the command has ended", func() bool { return ended(command(t, h.Endpoint, key).Command.State) })
				want := 1
				if lying {
					want = 2
				}
				if runs := ledgerRuns(t, cfg.Ledgers, id)[key]; runs != want {
					t.Errorf("a command ran %d times; want %d", runs, want)
				}
			}
		})
	}
}
