// Package output writes answers as tables for people, and as JSON or CSV for
// programs.
package output

import (
	"fmt"
	"strings"
)

// Format is how answers are written.
type Format string

const (
	Table Format = "table"
	JSON  Format = "json"
	CSV   Format = "csv"
)

// ParseFormat reads the value of -o.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case Table, JSON, CSV:
		return f, nil
	}
	return "", fmt.Errorf("output format %q: it is table, json or csv", s)
}

// Column is one column of a table or a CSV file.
type Column[T any] struct {
	Name string
	Cell func(T) string
	// Right aligns to the right edge, for numbers.
	Right bool
	// Whole is cut only when nothing else is left to cut: for what people copy.
	Whole bool
	// Begin is cut before all others on a narrow screen, down to what still
	// tells the rows apart: for long ids.
	Begin bool
	// Spare is left out of a table before cells are cut on a narrow screen.
	Spare bool
	// When leaves a table's column out unless it holds for a row; nil: it is
	// always there.
	When func(T) bool
	// Min is the least width where rows come one by one.
	Min int
}
