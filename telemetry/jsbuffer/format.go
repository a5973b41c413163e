package jsbuffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/tetherline/tetherline/telemetry"
)

// A chunk is one byte of version, then entries:
//
//	device, labels, telemetry: uvarint length, bytes
//	received: 8 bytes, little endian
//	rows: uvarint
//
// in the order device, labels, received, rows, telemetry. It has no checksum:
// JetStream's messages have one.
const chunkVersion = 1

// minEntryBytes is the smallest entry: three empty fields, received and rows.
const minEntryBytes = 3 + 8 + 1

var errBrokenOff = errors.New("it breaks off within an entry")

func uvarintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// entrySize is how many bytes appendEntry adds.
func entrySize(e *telemetry.Entry) int {
	return 8 + uvarintSize(e.Rows) +
		uvarintSize(len(e.Device)) + len(e.Device) +
		uvarintSize(len(e.Labels)) + len(e.Labels) +
		uvarintSize(len(e.Telemetry)) + len(e.Telemetry)
}

func appendEntry(b []byte, e *telemetry.Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Device)))
	b = append(b, e.Device...)
	b = binary.AppendUvarint(b, uint64(len(e.Labels)))
	b = append(b, e.Labels...)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Received))
	b = binary.AppendUvarint(b, uint64(e.Rows))
	b = binary.AppendUvarint(b, uint64(len(e.Telemetry)))
	return append(b, e.Telemetry...)
}

// decodeChunk returns the entries of a chunk. They share its memory: data
// must not change any more.
func decodeChunk(data []byte) ([]telemetry.Entry, error) {
	if len(data) == 0 {
		return nil, errors.New("decode chunk: it is empty")
	}
	if data[0] != chunkVersion {
		return nil, fmt.Errorf("decode chunk: its version is %d; this hub knows version %d", data[0], chunkVersion)
	}
	r := reader{data: data[1:]}
	entries := make([]telemetry.Entry, 0, r.estimate())
	for len(r.data) > 0 && !r.broken {
		entries = append(entries, r.entry())
	}
	if r.broken {
		return nil, fmt.Errorf("decode chunk: after %d entries: %w", len(entries)-1, errBrokenOff)
	}
	if len(entries) == 0 {
		return nil, errors.New("decode chunk: it has no entries")
	}
	return entries, nil
}

// reader takes an entry apart; once broken, it returns zero values.
type reader struct {
	data   []byte
	broken bool
}

// estimate how many entries there are, by the size of the first.
func (r *reader) estimate() int {
	probe := *r
	probe.entry()
	if probe.broken {
		return 0
	}
	return 1 + len(r.data)/max(minEntryBytes, len(r.data)-len(probe.data))
}

func (r *reader) entry() telemetry.Entry {
	return telemetry.Entry{
		Device:    r.text(),
		Labels:    r.text(),
		Received:  r.int64(),
		Rows:      r.length(1 << 30),
		Telemetry: r.bytes(),
	}
}

func (r *reader) length(limit int) int {
	n, size := binary.Uvarint(r.data)
	if size <= 0 || n > uint64(limit) {
		r.broken, r.data = true, nil
		return 0
	}
	r.data = r.data[size:]
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.length(len(r.data))
	if n > len(r.data) {
		r.broken, r.data = true, nil
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) text() string {
	b := r.bytes()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (r *reader) int64() int64 {
	if len(r.data) < 8 {
		r.broken, r.data = true, nil
		return 0
	}
	n := binary.LittleEndian.Uint64(r.data)
	r.data = r.data[8:]
	return int64(n)
}
