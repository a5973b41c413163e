package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// progress is a line on a terminal that is drawn again and again. Elsewhere
// it draws nothing. The nil progress draws nothing either.
type progress struct {
	w     io.Writer
	width int
	title string
	total int
	done  int
	drawn string
}

func newProgress(w io.Writer, title string, total int) *progress {
	width, _ := terminal.Size(w)
	if width == 0 {
		return nil
	}
	return &progress{w: w, width: width, title: title, total: total}
}

// add counts n more and draws a bar.
func (p *progress) add(n int) {
	if p == nil {
		return
	}
	p.done += n
	text := fmt.Sprintf(" %s %d/%d", p.title, p.done, p.total)
	room := min(40, p.width-len(text)-4)
	if room >= 4 && p.total > 0 {
		full := room * p.done / p.total
		text = "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]" + text
	}
	p.show(text)
}

// show draws a line of text in place of the one before.
func (p *progress) show(text string) {
	if p == nil {
		return
	}
	text = terminal.Truncate(terminal.Clean(text), p.width-1)
	if text == p.drawn {
		return
	}
	p.drawn = text
	fmt.Fprint(p.w, "\r"+text+"\x1b[K")
}

// finish removes the line.
func (p *progress) finish() {
	if p == nil || p.drawn == "" {
		return
	}
	p.drawn = ""
	fmt.Fprint(p.w, "\r\x1b[K")
}
