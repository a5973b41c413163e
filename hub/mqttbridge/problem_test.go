package mqttbridge

import (
	"fmt"
	"testing"
)

// Details of one reason do not hide each other; those that differ in their
// numbers alone do, and there are few.
func TestDetailsOfAProblem(t *testing.T) {
	var ps problems
	say := func(detail string) { ps.remember(problem{reason: "r", profile: "p", detail: detail}) }
	say("field a: 1e400 is no number")
	for i := range 100 {
		say(fmt.Sprintf("no time at ts[%d]", i))
	}
	got := ps.list()
	if want := "no time at ts[99]; before: field a: 1e400 is no number"; len(got) != 1 || got[0].Count != 101 || got[0].Detail != want {
		t.Fatalf("%+v", got)
	}
	say("field a: 1e500 is no number")
	if got, want := ps.list()[0].Detail, "field a: 1e500 is no number; before: no time at ts[99]"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	for _, c := range "bcdefgh" {
		say(string(c))
	}
	if got, want := ps.list()[0].Detail, "h; before: g; f; e"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	for i := range 2 * maxProblems {
		ps.remember(problem{reason: fmt.Sprint(i), detail: "x"})
		ps.remember(problem{reason: fmt.Sprint(i), detail: "y"})
	}
	if len(ps.byKey) != maxProblems || len(ps.before) != maxProblems {
		t.Errorf("%d problems with %d details", len(ps.byKey), len(ps.before))
	}
}
