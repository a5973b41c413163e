package profile

import (
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// checkGear refuses what is no name of gear: 1 to MaxGearBytes of printable
// UTF-8.
func checkGear(name string) error {
	switch {
	case name == "":
		return Refuse("no gear", "the topic has an empty level where the gear's name belongs")
	case len(name) > MaxGearBytes:
		return Refuse("gear name too long", "%s has %d bytes, the limit is %d", quoted(name), len(name), MaxGearBytes)
	case !utf8.ValidString(name):
		return Refuse("not UTF-8", "the gear's name in the topic")
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return Refuse("gear name not printable", "%s", quoted(name))
		}
	}
	return nil
}

// troubles gathers what is wrong with parts of a message for Report.Problem.
type troubles struct {
	first string
	n     int
}

func (t *troubles) add(text string) {
	if t.n++; t.n == 1 {
		t.first = text
	}
}

func (t *troubles) String() string {
	if t.n > 1 {
		return cut(t.first) + " (and " + strconv.Itoa(t.n-1) + " more)"
	}
	return cut(t.first)
}

// onlyArguments refuses arguments that a command does not take.
func onlyArguments(c Command, names ...string) error {
	for name := range c.Args {
		if !slices.Contains(names, name) {
			return Refuse("bad argument", "%s takes no argument %s", c.Name, quoted(name))
		}
	}
	return nil
}
