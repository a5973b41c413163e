package jsbuffer

import (
	"bytes"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
)

func TestChunkFormat(t *testing.T) {
	e := telemetry.Entry{Device: "ab", Labels: ",s=n", Received: 0x0102, Rows: 300, Telemetry: []byte{9}}
	got := appendEntry([]byte{chunkVersion}, &e)
	want := []byte{1, 2, 'a', 'b', 4, ',', 's', '=', 'n', 2, 1, 0, 0, 0, 0, 0, 0, 0xac, 2, 1, 9}
	if !bytes.Equal(got, want) {
		t.Errorf("encoded as\n%x; want\n%x", got, want)
	}
	if size := entrySize(&e); size != len(want)-1 {
		t.Errorf("size %d; want %d", size, len(want)-1)
	}
	for cut := 1; cut < len(want); cut++ {
		if entries, err := decodeChunk(want[:cut]); err == nil {
			t.Errorf("cut to %d bytes it decodes to %+v", cut, entries)
		}
	}
	if _, err := decodeChunk(append([]byte{2}, want[1:]...)); err == nil {
		t.Error("an unknown version decodes")
	}
}

// Whatever decodes, encodes to something that decodes to the same.
func FuzzDecodeChunk(f *testing.F) {
	e := telemetry.Entry{Device: "ab", Labels: ",s=n", Received: 1, Rows: 3, Telemetry: []byte{9}}
	f.Add(appendEntry(appendEntry([]byte{chunkVersion}, &e), &e))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeChunk(data)
		if err != nil {
			return
		}
		again := []byte{chunkVersion}
		for i := range entries {
			before := len(again)
			again = appendEntry(again, &entries[i])
			if len(again)-before != entrySize(&entries[i]) {
				t.Fatalf("entry %d: size %d, encoded %d", i, entrySize(&entries[i]), len(again)-before)
			}
		}
		second, err := decodeChunk(again)
		if err != nil || len(second) != len(entries) {
			t.Fatalf("%d entries, then %d, %v", len(entries), len(second), err)
		}
		for i, e := range entries {
			s := second[i]
			if e.Device != s.Device || e.Labels != s.Labels || e.Received != s.Received || e.Rows != s.Rows || !bytes.Equal(e.Telemetry, s.Telemetry) {
				t.Fatalf("entry %d: %+v, then %+v", i, e, s)
			}
		}
	})
}
