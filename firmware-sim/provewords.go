package firmwaresim

import (
	"fmt"
	"slices"
	"strings"
)

// leftOut says which faults never happened, those with one reason together.
func (v Verdict) leftOut() (lines []string) {
	at := map[string]int{}
	for _, name := range Faults() {
		why, ok := v.LeftOut[name]
		if !ok {
			continue
		}
		i, known := at[why]
		if !known {
			at[why] = len(lines)
			lines = append(lines, name)
			continue
		}
		lines[i] += ", " + name
	}
	for why, i := range at {
		lines[i] += ": " + why
	}
	return lines
}

// counts are words of a map, in the order given; nil: of the alphabet.
func counts(m map[string]int, order []string) string {
	if order == nil {
		for name := range m {
			order = append(order, name)
		}
		slices.Sort(order)
	}
	var words []string
	for _, name := range order {
		if m[name] > 0 {
			words = append(words, fmt.Sprintf("%d %s", m[name], name))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
