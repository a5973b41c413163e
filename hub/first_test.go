package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// The main job: a reading travels from a device into the store, and an
// operator sees it.
func TestReadingReachesTheOperator(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	c, stop := hubtest.Run(t, h.Client(h.CreateDevice(t, "barn-1")))
	if err := c.Publish(t.Context(), client.Reading(client.Double("temperature", 21.5))); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the row is stored", func() bool { return h.Count(t, "barn-1") == 1 })
	latest, err := h.Telemetry.Latest(t.Context(), connect.NewRequest(&operatorv1.LatestRequest{DeviceId: "barn-1"}))
	if err != nil {
		t.Fatal(err)
	}
	if items := latest.Msg.Items; len(items) != 1 || items[0].Field != "temperature" || items[0].Value.GetDoubleValue() != 21.5 {
		t.Fatalf("latest is %v; want temperature 21.5", items)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the device is shown offline with a reason", func() bool {
		d, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: "barn-1"}))
		return err == nil && !d.Msg.Device.Presence.GetOnline() && d.Msg.Device.Presence.GetReason() == "closed by the device"
	})
}

// A second hub on the same folder would store everything twice and hand out
// the same credentials.
func TestOneHubPerDataFolder(t *testing.T) {
	cfg := hubtest.Config(t)
	hubtest.Start(t, cfg)
	_, err := hub.New(t.Context(), cfg, hub.Options{})
	if err == nil || !strings.Contains(err.Error(), "another hub runs on this data folder") {
		t.Fatalf("the second hub got %v", err)
	}
}

// The secrets of the first start are for the owner's eyes only.
func TestSecretsOfTheDataFolderAreProtected(t *testing.T) {
	cfg := hubtest.Config(t)
	hubtest.Start(t, cfg)
	for _, name := range []string{"admin.token", "master.key", "ca.key"} {
		info, err := os.Stat(filepath.Join(cfg.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %v; want 0600", name, mode)
		}
	}
}
