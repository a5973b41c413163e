package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/registry"
)

func parse(t testing.TB, s string) registry.Selector {
	t.Helper()
	sel, err := registry.ParseSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func TestSelectorMatches(t *testing.T) {
	labels := map[string]string{"site": "north", "row": "7", "name": `a "b", c`, "none": ""}
	for s, want := range map[string]bool{
		"":                          true,
		"site=north":                true,
		"site==north":               true,
		"site=south":                false,
		"other=x":                   false,
		"site!=south":               true,
		"site!=north":               false,
		"other!=x":                  true,
		"site":                      true,
		"other":                     false,
		"!other":                    true,
		"!site":                     false,
		"site in (south,north)":     true,
		"site in (south)":           false,
		"other in (x)":              false,
		"site notin (south)":        true,
		"site notin (south, north)": false,
		"other notin (x)":           true,
		"site=north,row=7":          true,
		"site=north,row=8":          false,
		` site = north , row = 7 `:  true,
		`name="a \"b\", c"`:         true,
		`none=""`:                   true,
		`site=""`:                   false,
		"in=1":                      false,
		"!notin":                    true,
	} {
		if got := parse(t, s).Match(labels); got != want {
			t.Errorf("%s matches: %v, want %v", s, got, want)
		}
	}
}

func TestSelectorCanonicalForm(t *testing.T) {
	for s, want := range map[string]string{
		"b=2, a=1":           "a=1,b=2",
		"a in (1)":           "a=1",
		"a notin (1)":        "a!=1",
		"a in (2, 1,2)":      "a in (1,2)",
		"a=1,a=1":            "a=1",
		`a="x y"`:            "a=x y",
		`a=" x"`:             `a=" x"`,
		`a="q\"\\"`:          `a="q\"\\"`,
		`a=""`:               `a=""`,
		"! a , b":            "!a,b",
		"a/b.c-d!=ü":         "a/b.c-d!=ü",
		"a notin ( \"x,\" )": `a!="x,"`,
		"":                   "",
	} {
		got := parse(t, s).String()
		if got != want {
			t.Errorf("%q is %q in canonical form, want %q", s, got, want)
		}
		if again := parse(t, got).String(); again != got {
			t.Errorf("%q reads back as %q", got, again)
		}
	}
	if got := parse(t, "a=1").And(parse(t, "b,a=1")).String(); got != "a=1,b" {
		t.Errorf("And = %q", got)
	}
}

func TestSelectorErrors(t *testing.T) {
	for s, want := range map[string]string{
		"=x":                              "label key is missing",
		"a=":                              `a=""`,
		"a=,b":                            `a=""`,
		"a,":                              "label key is missing",
		"a b":                             "after \"a\"",
		"a in b":                          "parentheses",
		"a in (b":                         "closing parenthesis",
		"a in ()":                         "missing",
		"a=b=c":                           "comma is missing",
		`a="b`:                            "closing quote",
		`a="\n"`:                          "backslash",
		`a="b"c`:                          "comma is missing",
		"1a=b":                            "no label key",
		"ä=b":                             "label key is missing",
		"a=\x00":                          "printed",
		"a>1":                             "after \"a\"",
		"a=" + strings.Repeat("x", 129):   "129 bytes",
		strings.Repeat("k", 64):           "no label key",
		strings.Repeat("a,", 64) + "a":    "65 requirements",
		"a=" + strings.Repeat("x", 4<<10): "4096",
		"a in (" + strings.Repeat("1,", 256) + "2)": "at most 256",
	} {
		_, err := registry.ParseSelector(s)
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v; want %q", s, err, want)
		}
	}
}

func FuzzSelector(f *testing.F) {
	for _, s := range []string{"a=1,!b,c in (x,\"y,\"),d!=\"\\\"\"", "a notin (1)", "", " a = b c "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := registry.ParseSelector(s)
		if err != nil {
			return
		}
		canonical := sel.String()
		again, err := registry.ParseSelector(canonical)
		if err != nil && len(canonical) <= registry.MaxSelectorBytes {
			t.Fatalf("%q gives %q, which is refused: %v", s, canonical, err)
		}
		if err == nil && again.String() != canonical {
			t.Fatalf("%q gives %q, then %q", s, canonical, again)
		}
	})
}

func TestCheckLabels(t *testing.T) {
	many := map[string]string{}
	for i := range 33 {
		many["k"+strings.Repeat("x", i)] = ""
	}
	for name, labels := range map[string]map[string]string{
		"empty key":   {"": "x"},
		"digit first": {"1a": "x"},
		"space":       {"a b": "x"},
		"long key":    {strings.Repeat("k", 64): "x"},
		"long value":  {"k": strings.Repeat("x", 129)},
		"newline":     {"k": "a\nb"},
		"not UTF-8":   {"k": "\xff"},
		"override":    {"k": "a\u202eb"},
		"too many":    many,
	} {
		if err := registry.CheckLabels(labels); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	good := map[string]string{strings.Repeat("k", 63): strings.Repeat("x", 128), "_a.b-c/d": "Größe 1 m²", "empty": ""}
	if err := registry.CheckLabels(good); err != nil {
		t.Error(err)
	}
}
