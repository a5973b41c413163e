package output

import (
	"encoding/csv"
	"io"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// CSVWriter writes rows below a header as RFC 4180 has it, with a plain
// newline at line ends.
type CSVWriter[T any] struct {
	w       *csv.Writer
	columns []Column[T]
	clean   bool
	begun   bool
}

// NewCSV writes to w. Towards a screen the cells are made harmless; a file or
// a pipe gets them as they are.
func NewCSV[T any](w io.Writer, screen bool, columns []Column[T]) *CSVWriter[T] {
	return &CSVWriter[T]{w: csv.NewWriter(w), columns: columns, clean: screen}
}

// Put adds a row, and before the first one the header.
func (c *CSVWriter[T]) Put(row T) error {
	if err := c.header(); err != nil {
		return err
	}
	return c.record(func(col Column[T]) string { return col.Cell(row) })
}

// Flush writes what is held back; without any row, the header alone.
func (c *CSVWriter[T]) Flush() error {
	if err := c.header(); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}

func (c *CSVWriter[T]) header() error {
	if c.begun {
		return nil
	}
	c.begun = true
	return c.record(func(col Column[T]) string { return col.Name })
}

func (c *CSVWriter[T]) record(cell func(Column[T]) string) error {
	line := make([]string, len(c.columns))
	for i, col := range c.columns {
		line[i] = cell(col)
		if c.clean {
			line[i] = terminal.Clean(line[i])
		}
	}
	return c.w.Write(line)
}
