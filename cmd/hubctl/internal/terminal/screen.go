package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Size is the width and height of the terminal behind w in cells, or zeros
// when w is no terminal.
func Size(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// IsInput reports whether somebody can type at r.
func IsInput(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Raw makes the terminal behind r hand over each key at once and returns how
// to undo that.
func Raw(r io.Reader) (restore func(), err error) {
	fd := int(r.(*os.File).Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, state) }, nil
}
