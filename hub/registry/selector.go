package registry

import (
	"slices"
	"strings"
	"unicode"
)

// Selector chooses devices by their labels: all of its requirements hold.
// The zero Selector matches every device.
type Selector struct {
	requirements []requirement // sorted, without repeats
}

type operation uint8

const (
	opIn     operation = iota // the key is there and has one of the values
	opNotIn                   // the key is not there, or has none of the values
	opExists                  // the key is there
	opAbsent                  // the key is not there
)

type requirement struct {
	key       string
	operation operation
	values    []string // sorted, without repeats
}

// Match reports whether a device with these labels is chosen.
func (s Selector) Match(labels map[string]string) bool {
	for i := range s.requirements {
		if !s.requirements[i].match(labels) {
			return false
		}
	}
	return true
}

func (r *requirement) match(labels map[string]string) bool {
	value, there := labels[r.key]
	switch r.operation {
	case opIn:
		return there && slices.Contains(r.values, value)
	case opNotIn:
		return !there || !slices.Contains(r.values, value)
	case opExists:
		return there
	default:
		return !there
	}
}

// Empty reports whether the selector matches every device.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// And is the selector of the devices that both match.
func (s Selector) And(other Selector) Selector {
	return newSelector(slices.Concat(s.requirements, other.requirements))
}

// newSelector brings requirements into their canonical order.
func newSelector(requirements []requirement) Selector {
	slices.SortFunc(requirements, compareRequirements)
	return Selector{slices.CompactFunc(requirements, func(a, b requirement) bool {
		return compareRequirements(a, b) == 0
	})}
}

func compareRequirements(a, b requirement) int {
	if c := strings.Compare(a.key, b.key); c != 0 {
		return c
	}
	if a.operation != b.operation {
		return int(a.operation) - int(b.operation)
	}
	return slices.Compare(a.values, b.values)
}

// String is the canonical form, which ParseSelector reads back: equal
// selectors have equal strings.
func (s Selector) String() string {
	parts := make([]string, len(s.requirements))
	for i := range s.requirements {
		parts[i] = s.requirements[i].String()
	}
	return strings.Join(parts, ",")
}

func (r *requirement) String() string {
	quoted := make([]string, len(r.values))
	for i, v := range r.values {
		quoted[i] = quoteValue(v)
	}
	switch {
	case r.operation == opExists:
		return r.key
	case r.operation == opAbsent:
		return "!" + r.key
	case r.operation == opIn && len(r.values) == 1:
		return r.key + "=" + quoted[0]
	case r.operation == opNotIn && len(r.values) == 1:
		return r.key + "!=" + quoted[0]
	case r.operation == opIn:
		return r.key + " in (" + strings.Join(quoted, ",") + ")"
	default:
		return r.key + " notin (" + strings.Join(quoted, ",") + ")"
	}
}

// quoteValue puts quotes around a value where it could not be read without.
func quoteValue(v string) string {
	if v != "" && strings.TrimFunc(v, unicode.IsSpace) == v && !strings.ContainsAny(v, bareStops) {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// bareStops are the characters that a value without quotes cannot have.
const bareStops = `,()"\=!`
