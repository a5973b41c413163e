package registry

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tetherline/tetherline/device"
)

// Limits of what a device may carry.
const (
	MaxLabels          = 32
	MaxLabelKeyBytes   = 63
	MaxLabelValueBytes = 128
	MaxNoteBytes       = 1024
	MaxDescribeBytes   = 64 << 10
	MaxGearNameBytes   = 128 // each name of Gear
)

// CheckLabels returns an error that wraps ErrInvalid unless there are at most
// MaxLabels labels, each with a good key and value.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%w: %d labels; a device has at most %d", ErrInvalid, len(labels), MaxLabels)
	}
	for key, value := range labels {
		if err := CheckLabelKey(key); err != nil {
			return err
		}
		if err := checkLabelValue(key, value); err != nil {
			return err
		}
	}
	return nil
}

// CheckLabelKey returns an error that wraps ErrInvalid unless key is a letter
// or '_' followed by at most 62 letters, digits, '_', '.', '-' or '/'.
func CheckLabelKey(key string) error {
	if !validLabelKey(key) {
		return fmt.Errorf("%w: %.80q is no label key: a letter or '_', then letters, digits, '_', '.', '-' or '/', at most %d bytes",
			ErrInvalid, key, MaxLabelKeyBytes)
	}
	return nil
}

func validLabelKey(key string) bool {
	if key == "" || len(key) > MaxLabelKeyBytes || !strings.ContainsRune(labelKeyStart, rune(key[0])) {
		return false
	}
	for i := 1; i < len(key); i++ {
		if !isLabelKeyByte(key[i]) {
			return false
		}
	}
	return true
}

const (
	labelKeyStart = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
	labelKeyRest  = labelKeyStart + "0123456789.-/"
)

func isLabelKeyByte(b byte) bool { return b < utf8.RuneSelf && strings.IndexByte(labelKeyRest, b) >= 0 }

func checkLabelValue(key, value string) error {
	if len(value) > MaxLabelValueBytes {
		return fmt.Errorf("%w: the value of label %s has %d bytes; at most %d", ErrInvalid, key, len(value), MaxLabelValueBytes)
	}
	if !printable(value) {
		return fmt.Errorf("%w: the value of label %s, %q, has characters that cannot be printed", ErrInvalid, key, value)
	}
	return nil
}

// printable reports whether s is UTF-8 of graphic characters and spaces.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// check returns what is wrong with a device that is to be saved.
func (d *Device) check() error {
	if err := device.CheckID(d.ID); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.Kind != KindDevice && d.Kind != KindMQTT {
		return fmt.Errorf("%w: %.80q is no kind of device", ErrInvalid, d.Kind)
	}
	if (d.Kind == KindMQTT) != (d.Gear != nil) {
		return fmt.Errorf("%w: a device of kind %s names its gear, and no other does", ErrInvalid, KindMQTT)
	}
	if g := d.Gear; g != nil {
		for _, name := range []string{g.Broker, g.Profile, g.Name} {
			if name == "" || len(name) > MaxGearNameBytes || !printable(name) {
				return fmt.Errorf("%w: the gear of device %s: %.200q is no name of 1 to %d printable bytes", ErrInvalid, d.ID, name, MaxGearNameBytes)
			}
		}
	}
	if !validKeyID(d.KeyID) {
		return fmt.Errorf("%w: device %s has no id of a master key", ErrInvalid, d.ID)
	}
	if len(d.Note) > MaxNoteBytes || !utf8.ValidString(d.Note) {
		return fmt.Errorf("%w: a note is UTF-8 of at most %d bytes", ErrInvalid, MaxNoteBytes)
	}
	if len(d.Describe) > MaxDescribeBytes {
		return fmt.Errorf("%w: a description has at most %d bytes", ErrInvalid, MaxDescribeBytes)
	}
	return CheckLabels(d.Labels)
}

// checkChange returns what is wrong with a change of old to d, after it has
// put d in order.
func (d *Device) checkChange(old *Device) error {
	if d.ID != old.ID || d.Kind != old.Kind || !d.Created.Equal(old.Created) {
		return fmt.Errorf("%w: the id, kind and time of creation of device %s cannot be changed", ErrInvalid, old.ID)
	}
	if (d.Gear == nil) != (old.Gear == nil) || d.Gear != nil && *d.Gear != *old.Gear {
		return fmt.Errorf("%w: the gear of device %s cannot be changed; delete it and allow it anew", ErrInvalid, old.ID)
	}
	if d.Generation < old.Generation {
		return fmt.Errorf("%w: the generation of device %s cannot go back", ErrInvalid, old.ID)
	}
	if d.Retiring == nil {
		d.Older = nil
	}
	if len(d.Older) == 0 {
		d.Older = nil
	}
	if len(d.Labels) == 0 {
		d.Labels = nil
	}
	d.Revision = old.Revision
	return d.check()
}
