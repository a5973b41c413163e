package session

import (
	"sync"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Memory is what the hub remembers of a device from one session to the next,
// for as long as this process runs. The zero value remembers nothing. All
// methods may run at once.
type Memory struct {
	fieldsMu sync.Mutex // held while a frame is checked
	fields   wire.FieldSet

	mu      sync.Mutex
	boot    [device.BootIDBytes]byte
	last    uint64 // the last durable seq of boot; 0: none
	dropped uint64
}

// begin is the start of a session with that boot id. It returns the last
// durable seq that is remembered of it.
func (m *Memory) begin(boot [device.BootIDBytes]byte) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot != boot {
		m.boot, m.last = boot, 0
	}
	return m.last
}

// durable says that everything up to seq is on disk or was rejected. The word
// of a session of an earlier boot is out of date.
func (m *Memory) durable(boot [device.BootIDBytes]byte, seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == boot && seq > m.last {
		m.last = seq
	}
}

// lastDurable of a boot; 0: none.
func (m *Memory) lastDurable(boot [device.BootIDBytes]byte) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot != boot {
		return 0
	}
	return m.last
}

// DroppedRows is the running total of rows that the device says it had to
// drop.
func (m *Memory) DroppedRows() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropped
}

// SetDroppedRows sets that total.
func (m *Memory) SetDroppedRows(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropped = n
}
