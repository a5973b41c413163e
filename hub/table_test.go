package hub_test

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// table is a table in Markdown, as deploy/BENCHMARKS.md has them.
type table struct {
	rows [][]string
}

func newTable(head ...string) *table { return &table{[][]string{head}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print goes to the standard output at once: a benchmark's own log comes when
// all is over.
func (t *table) print() {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var b strings.Builder
	b.WriteByte('\n')
	for n, row := range t.rows {
		b.WriteByte('|')
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				cell, pad = cell+pad, ""
			}
			b.WriteString(" " + pad + cell + " |")
		}
		b.WriteByte('\n')
		if n == 0 {
			b.WriteByte('|')
			for i, w := range widths {
				rule := strings.Repeat("-", w+1) + ":"
				if i == 0 {
					rule = strings.Repeat("-", w+2)
				}
				b.WriteString(rule + "|")
			}
			b.WriteByte('\n')
		}
	}
	b.WriteByte('\n')
	_, _ = os.Stdout.WriteString(b.String())
}

// times is the ratio of two figures, "–" where one is missing.
func times(of, to float64) string {
	if of == 0 || to == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", of/to)
}

func millis(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}
