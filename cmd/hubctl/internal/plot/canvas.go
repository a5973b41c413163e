package plot

import "strings"

// canvas is a field of dots, 2 by 4 of them to a braille cell, or one to an
// ASCII cell. Dot 0,0 is at the top left.
type canvas struct {
	columns, rows int
	dotsX, dotsY  int
	ascii         bool
	cells         []rune // braille: the bits of the cell
}

func newCanvas(columns, rows int, ascii bool) *canvas {
	c := &canvas{columns: columns, rows: rows, dotsX: columns, dotsY: rows, ascii: ascii, cells: make([]rune, columns*rows)}
	if !ascii {
		c.dotsX, c.dotsY = columns*2, rows*4
	}
	return c
}

// brailleBits are the bits of U+2800 by row and column of a cell (Unicode
// 15, chapter 21.1).
var brailleBits = [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}

func (c *canvas) dot(x, y int) {
	if x < 0 || y < 0 || x >= c.dotsX || y >= c.dotsY {
		return
	}
	if c.ascii {
		c.cells[y*c.columns+x] = '*'
		return
	}
	c.cells[y/4*c.columns+x/2] |= brailleBits[y%4][x%2]
}

// segment draws a line by Bresenham's algorithm.
func (c *canvas) segment(x0, y0, x1, y1 int) {
	dx, dy := abs(x1-x0), -abs(y1-y0)
	sx, sy := sign(x1-x0), sign(y1-y0)
	e := dx + dy
	for {
		c.dot(x0, y0)
		if x0 == x1 && y0 == y1 {
			return
		}
		e2 := 2 * e
		if e2 >= dy {
			e += dy
			x0 += sx
		}
		if e2 <= dx {
			e += dx
			y0 += sy
		}
	}
}

func (c *canvas) lines() []string {
	out := make([]string, c.rows)
	var b strings.Builder
	for row := range c.rows {
		b.Reset()
		for _, cell := range c.cells[row*c.columns : (row+1)*c.columns] {
			switch {
			case cell == 0:
				b.WriteByte(' ')
			case c.ascii:
				b.WriteRune(cell)
			default:
				b.WriteRune(0x2800 + cell)
			}
		}
		out[row] = b.String()
	}
	return out
}

func abs(n int) int { return max(n, -n) }

func sign(n int) int {
	switch {
	case n > 0:
		return 1
	case n < 0:
		return -1
	}
	return 0
}
