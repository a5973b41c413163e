package hub_test

import (
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// An idle device must stay cheap: a buffer that a session holds on to would
// show here at once. The bound is for objects and stacks: 18 KiB were
// measured, 21 with the race detector. BenchmarkIdleMemory measures resident
// memory.
func TestIdleDevicesStayCheap(t *testing.T) {
	const devices, most = 400, 24 << 10
	h := hubtest.StartProcess(t, processConfig(t))
	load := startLoad(t, h, true, firmwaresim.LoadConfig{
		Devices: devices, Idle: true, FramesAtFirst: 2, RowsPerFrame: 2, For: time.Millisecond,
	})
	load.await("enrolled")
	before := h.Memory()
	load.goOn()
	load.await("connected")
	load.goOn()
	load.await("settled")
	wantDrained(t, h.Endpoint)
	after := h.Memory()
	load.goOn()
	each := (after.Heap + after.Stacks - before.Heap - before.Stacks) / devices
	if each > most {
		t.Errorf("an idle device takes %d bytes of objects and stacks; want at most %d (%+v before, %+v after)",
			each, most, before, after)
	}
	t.Logf("%d bytes of objects and stacks a device", each)
}
