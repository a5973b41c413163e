package output

import (
	"bufio"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

const (
	gap       = "  "
	minWidth  = 4  // what a column is cut down to at most
	wholeLeft = 12 // the same of a column that should stay whole
)

// WriteTable writes rows below a header line. With a width above zero, the
// screen's, lines stay within it: cells are cut, the widest first, and columns
// that still do not fit are left out from the right; their number is returned.
// Every cell is made harmless for the screen.
func WriteTable[T any](w io.Writer, width int, columns []Column[T], rows []T) (hidden int, err error) {
	columns = wanted(columns, rows)
	cells := make([][]string, 0, len(rows)+1)
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = terminal.Clean(c.Name)
	}
	cells = append(cells, header)
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = terminal.Clean(c.Cell(row))
		}
		cells = append(cells, line)
	}
	widths := measure(cells, len(columns))
	for i := len(columns) - 1; i >= 0 && width > 0 && total(widths) > width; i-- {
		if !columns[i].Spare {
			continue
		}
		hidden++
		columns, widths = slices.Delete(columns, i, i+1), slices.Delete(widths, i, i+1)
		for k := range cells {
			cells[k] = slices.Delete(cells[k], i, i+1)
		}
	}
	shown := len(columns)
	if width > 0 {
		whole := make([]bool, len(columns))
		for i, c := range columns {
			whole[i] = c.Whole
		}
		for i, c := range columns {
			if over := total(widths) - width; c.Begin && over > 0 {
				widths[i] -= min(over, widths[i]-distinct(cells, i, widths[i]))
			}
		}
		shown = fit(widths, whole, width)
	}
	b := bufio.NewWriter(w)
	var text strings.Builder
	for _, line := range cells {
		text.Reset()
		for i := range shown {
			if i > 0 {
				text.WriteString(gap)
			}
			text.WriteString(pad(line[i], widths[i], columns[i].Right, i == shown-1))
		}
		b.WriteString(strings.TrimRight(text.String(), " "))
		b.WriteByte('\n')
	}
	return hidden + len(columns) - shown, b.Flush()
}

// wanted is the columns that say something of these rows.
func wanted[T any](columns []Column[T], rows []T) []Column[T] {
	return slices.DeleteFunc(slices.Clone(columns), func(c Column[T]) bool {
		return c.When != nil && !slices.ContainsFunc(rows, c.When)
	})
}

// distinct is the least width, at most full, at which the cells of a column
// that differ still differ, with the ellipsis behind them.
func distinct(cells [][]string, column, full int) int {
	texts := make([]string, 0, len(cells))
	for _, line := range cells {
		texts = append(texts, line[column])
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return minWidth + sort.Search(full-min(full, minWidth), func(n int) bool {
		for i := 1; i < len(texts); i++ {
			if terminal.Truncate(texts[i-1], minWidth+n) == terminal.Truncate(texts[i], minWidth+n) {
				return false
			}
		}
		return true
	})
}

func measure(cells [][]string, n int) []int {
	widths := make([]int, n)
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], terminal.Width(cell))
		}
	}
	return widths
}

// fit narrows widths until they stand in the width of the screen and returns
// how many columns are shown.
func fit(widths []int, whole []bool, screen int) int {
	narrow := func(least int, also bool) bool {
		for over := total(widths) - screen; over > 0; over = total(widths) - screen {
			widest, second := -1, least
			for i, w := range widths {
				if whole[i] && !also || w <= least {
					continue
				}
				switch {
				case widest < 0 || w > widths[widest]:
					if widest >= 0 {
						second = max(second, widths[widest])
					}
					widest = i
				default:
					second = max(second, w)
				}
			}
			if widest < 0 {
				return false
			}
			step := min(over, max(1, widths[widest]-second))
			widths[widest] -= step
		}
		return true
	}
	shown := len(widths)
	if narrow(minWidth, false) || narrow(wholeLeft, true) {
		return shown
	}
	for shown > 1 && total(widths[:shown]) > screen {
		shown--
	}
	if left := screen - total(widths[:shown]); left < 0 {
		widths[shown-1] = max(1, widths[shown-1]+left)
	}
	return shown
}

func total(widths []int) int {
	sum := max(0, len(widths)-1) * len(gap)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// pad cuts or fills a clean cell to the width; the last one of a line gets no
// blanks behind it.
func pad(cell string, width int, right, last bool) string {
	cell = terminal.Truncate(cell, width)
	fill := width - terminal.Width(cell)
	switch {
	case fill <= 0:
		return cell
	case right:
		return strings.Repeat(" ", fill) + cell
	case last:
		return cell
	}
	return cell + strings.Repeat(" ", fill)
}
