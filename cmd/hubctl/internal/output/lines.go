package output

import (
	"io"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// Lines writes the rows of a stream as they come, in columns that grow when
// a cell is wider than any before it.
type Lines[T any] struct {
	w       io.Writer
	width   int
	columns []Column[T]
	widths  []int
	begun   bool
}

// NewLines writes to w; a width above zero is the screen's and bounds lines.
func NewLines[T any](w io.Writer, width int, columns []Column[T]) *Lines[T] {
	l := &Lines[T]{w: w, width: width, columns: columns, widths: make([]int, len(columns))}
	for i, c := range columns {
		l.widths[i] = max(c.Min, terminal.Width(c.Name))
	}
	return l
}

// Put writes one row, and before the first one the header.
func (l *Lines[T]) Put(row T) error {
	cells := make([]string, len(l.columns))
	for i, c := range l.columns {
		cells[i] = terminal.Clean(c.Cell(row))
		if i < len(l.columns)-1 {
			l.widths[i] = max(l.widths[i], min(terminal.Width(cells[i]), 64))
		}
	}
	if !l.begun {
		l.begun = true
		header := make([]string, len(l.columns))
		for i, c := range l.columns {
			header[i] = c.Name
		}
		if err := l.write(header); err != nil {
			return err
		}
	}
	return l.write(cells)
}

func (l *Lines[T]) write(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		last := i == len(cells)-1
		if i > 0 {
			b.WriteString(gap)
		}
		width := l.widths[i]
		if last || terminal.Width(cell) > width {
			width = terminal.Width(cell)
		}
		b.WriteString(pad(cell, width, l.columns[i].Right, last))
	}
	line := strings.TrimRight(b.String(), " ")
	if l.width > 0 {
		line = terminal.Truncate(line, l.width)
	}
	_, err := io.WriteString(l.w, line+"\n")
	return err
}
