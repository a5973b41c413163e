package output

import (
	"bufio"
	"io"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// Detail is one line of a page about one thing: a name and what it is.
type Detail struct {
	Name  string
	Value string
}

// WriteDetails writes a page of "name: value" lines; those without a value
// are left out. Nothing is cut: a page is there to show the whole.
func WriteDetails(w io.Writer, details []Detail) error {
	widest := 0
	for _, d := range details {
		if d.Value != "" {
			widest = max(widest, terminal.Width(d.Name))
		}
	}
	b := bufio.NewWriter(w)
	for _, d := range details {
		if d.Value == "" {
			continue
		}
		b.WriteString(d.Name)
		b.WriteByte(':')
		b.WriteString(strings.Repeat(" ", widest-terminal.Width(d.Name)+1))
		b.WriteString(terminal.Clean(d.Value))
		b.WriteByte('\n')
	}
	return b.Flush()
}
