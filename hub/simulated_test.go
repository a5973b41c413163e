package hub_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// simulated is a device with the built-in firmware commands and a journal.
type simulated struct {
	cfg firmwaresim.DeviceConfig

	mu     sync.Mutex
	boots  int // sessions begun
	cancel context.CancelFunc
	ended  chan error
}

// runSimulated enrols a device and runs it until the test ends. onCommand
// hears of each command before it runs.
func runSimulated(t testing.TB, h hubtest.Endpoint, id, dir string, onCommand func(name string)) *simulated {
	t.Helper()
	d := &simulated{}
	cfg := h.Client(h.CreateDevice(t, id))
	cfg.JournalPath = dir + "/" + id + ".journal"
	cfg.FlushTimeout = 100 * time.Millisecond
	cfg.OnStateChange = func(s client.State, _ error) {
		if s == client.Connecting {
			d.mu.Lock()
			d.boots++
			d.mu.Unlock()
		}
	}
	d.cfg = firmwaresim.DeviceConfig{Interval: time.Second, Client: cfg, OnCommand: func(_, _, name string) { onCommand(name) }}
	d.start()
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Logf("the device has ended: %v", err)
		}
	})
	return d
}

func (d *simulated) start() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.ended = cancel, make(chan error, 1)
	go func() {
		_, err := firmwaresim.RunDevice(ctx, d.cfg)
		d.ended <- err
	}()
}

func (d *simulated) stop() error {
	d.cancel()
	err := <-d.ended
	d.ended <- err
	return err
}

// restart ends the device's process, as far as it knows, and starts another.
func (d *simulated) restart(t testing.TB) {
	t.Helper()
	if err := d.stop(); err != nil {
		t.Fatalf("the device ended: %v", err)
	}
	d.start()
}

// awaitBoots waits until the device has tried to connect so often.
func (d *simulated) awaitBoots(t testing.TB, n int) {
	t.Helper()
	hubtest.Eventually(t, "the device comes back", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.boots >= n
	})
}

// cancel cancels a command by the API.
func cancel(t testing.TB, h hubtest.Endpoint, id string) {
	t.Helper()
	if _, err := h.Commands.CancelCommand(t.Context(), connect.NewRequest(&operatorv1.CancelCommandRequest{Id: id})); err != nil {
		t.Fatalf("cancel %s: %v", id, err)
	}
}

// createDevices enrols many devices, with the label site=field, in order.
func createDevices(t testing.TB, h hubtest.Endpoint, ids []string) (credentials []device.Credential) {
	t.Helper()
	for some := range slices.Chunk(ids, 500) {
		request := &operatorv1.CreateDevicesRequest{}
		for _, id := range some {
			request.Devices = append(request.Devices, &operatorv1.NewDevice{Id: id, Labels: map[string]string{"site": "field"}})
		}
		answer, err := h.Devices.CreateDevices(t.Context(), connect.NewRequest(request))
		if err != nil {
			t.Fatalf("enrol devices: %v", err)
		}
		for _, o := range answer.Msg.Outcomes {
			c, err := device.ParseCredential(o.Credential)
			if err != nil {
				t.Fatalf("enrol %s: %v; %s", o.Id, err, o.Error)
			}
			credentials = append(credentials, c)
		}
	}
	return credentials
}
