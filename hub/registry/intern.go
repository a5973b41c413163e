package registry

import "crypto/sha256"

// interned keeps one copy of equal texts: the devices of one firmware
// describe themselves in the same bytes. It counts its users; it is not safe
// for use at once.
type interned map[[sha256.Size]byte]*internedText

type internedText struct {
	text []byte
	uses int
}

// take returns the kept copy of b.
func (t interned) take(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	key := sha256.Sum256(b)
	kept := t[key]
	if kept == nil {
		kept = &internedText{text: b}
		t[key] = kept
	}
	kept.uses++
	return kept.text
}

// drop ends one use of b.
func (t interned) drop(b []byte) {
	if len(b) == 0 {
		return
	}
	key := sha256.Sum256(b)
	if kept := t[key]; kept != nil {
		if kept.uses--; kept.uses <= 0 {
			delete(t, key)
		}
	}
}
