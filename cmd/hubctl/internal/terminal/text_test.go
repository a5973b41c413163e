package terminal

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanShowsWhatCouldSteerAScreen(t *testing.T) {
	for in, want := range map[string]string{
		"plain – ünïcode 温室 🌡":  "plain – ünïcode 温室 🌡",
		"\x1b[2J\x07\r\n\t":     `\x1b[2J\x07\r\n\t`,
		"\u009b31m\x7f":         `\x9b31m\x7f`,
		"a\u202eb\u2066c\u2028": `a\u202eb\u2066c\u2028`,
		"\xff\xfe ok":           `\xff\xfe ok`,
		"real \ufffd stays":     "real \ufffd stays",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzCleanAndTruncate(f *testing.F) {
	f.Add("\x1b]0;x\x07 温室\u202e\xff", 5)
	f.Fuzz(func(t *testing.T, s string, width int) {
		clean := Clean(s)
		if !utf8.ValidString(clean) || strings.ContainsFunc(clean, Unsafe) || Clean(clean) != clean {
			t.Fatalf("Clean(%q) = %q", s, clean)
		}
		if cut := Truncate(clean, width%200); Width(cut) > max(0, width%200) {
			t.Fatalf("%q is %d cells, not %d", cut, Width(cut), width%200)
		}
	})
}

func TestTruncateCountsCells(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"温室温", 5, "温室…"}, {"温室温", 4, "温…"}, {"x", 0, ""}, {"e\u0301e\u0301e\u0301", 2, "e\u0301…"}} {
		if got := Truncate(c.in, c.width); got != c.want {
			t.Errorf("Truncate(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}
