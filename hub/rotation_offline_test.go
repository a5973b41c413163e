package hub_test

import (
	"testing"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A device that was away when its credential was rotated gets the next one
// when it comes back on the old one, and is not locked out by the end of the
// grace.
func TestRotationWhileAwayIsHandedOverOnReturn(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	first := h.CreateDevice(t, "away-1")
	if _, err := h.Devices.RotateDevice(t.Context(), connect.NewRequest(&operatorv1.RotateDeviceRequest{Id: "away-1"})); err != nil {
		t.Fatal(err)
	}
	cfg := h.Client(first)
	store := client.NewMemoryStore(first)
	cfg.Credentials = store
	hubtest.Run(t, cfg)
	hubtest.Eventually(t, "the device has proved the next credential", func() bool {
		held, err := store.Load()
		return err == nil && held.Current.Generation == first.Generation+1 && held.Next == nil
	})
	hubtest.Eventually(t, "the old credential is dead", func() bool {
		d, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: "away-1"}))
		return err == nil && d.Msg.Device.RetiringGeneration == 0
	})
}
