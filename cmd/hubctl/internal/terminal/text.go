// Package terminal holds what hubctl knows of terminals: how wide a text is,
// how to cut it, and how to show text of strangers without letting it steer
// the screen.
package terminal

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

const hex = "0123456789abcdef"

// Clean makes text of a hub or a device harmless on a screen: control
// characters (C0, DEL and C1, which is where escape sequences start), line
// and paragraph separators, directional overrides and broken UTF-8 become
// visible escapes such as \x1b, \n or \u202e. Other text comes back as it is.
func Clean(s string) string {
	i := dirty(s)
	if i < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:i])
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			escapeByte(&b, s[i])
		case !Unsafe(r):
			b.WriteString(s[i : i+size])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			escapeByte(&b, byte(r))
		default:
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[r>>shift&15])
			}
		}
		i += size
	}
	return b.String()
}

func escapeByte(b *strings.Builder, c byte) {
	b.WriteString(`\x`)
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&15])
}

// dirty is the index of the first byte that Clean would change, or -1.
func dirty(s string) int {
	for i, r := range s {
		if Unsafe(r) {
			return i
		}
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

// Unsafe reports whether a terminal may take r for more than a character to
// show. All such runes are below 0x10000.
func Unsafe(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0:
		return true
	case r < 0x100:
		return false
	case r == 0x2028, r == 0x2029, r == 0xfeff:
		return true
	}
	return r < 0x10000 && unicode.Is(unicode.Bidi_Control, r)
}

// Width is the number of screen cells of clean text.
func Width(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return uniseg.StringWidth(s)
		}
	}
	return len(s)
}

// Truncate cuts clean text to at most width cells, with an ellipsis as the
// last one where something was cut.
func Truncate(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if Width(s) <= width {
		return s
	}
	used, end, rest, state := 0, 0, s, -1
	for rest != "" {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if used+w > width-1 {
			break
		}
		used += w
		end += len(cluster)
	}
	return s[:end] + "…"
}
