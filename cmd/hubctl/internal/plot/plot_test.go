package plot

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int, v float64) Point {
	return Point{Time: noon.Add(time.Duration(seconds) * time.Second), Value: v}
}

func TestChartGolden(t *testing.T) {
	c := Chart{Title: "t", From: noon, To: noon.Add(time.Minute), Width: 34, Height: 8, ASCII: true, Gap: 20 * time.Second,
		Points: []Point{at(0, 0), at(15, 10), at(30, 0), at(55, 10), at(60, 10)}}
	want := `t
10+       **                   ***
  |     **  **
 5+   **      **
  | **          **
 0+*              *
  +-------------------------------
   12:00:00   12:00:30    12:01:00`
	if got := strings.Join(c.Render(), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// Whatever the values are, the chart has its size and drawing it ends.
func TestChartSurvivesAnyValue(t *testing.T) {
	for _, values := range [][]float64{nil, {1}, {0, 0}, {math.NaN(), math.Inf(1), 3}, {-math.MaxFloat64, math.MaxFloat64}, {math.SmallestNonzeroFloat64, 0},
		{1e15, 1e15 + 1}, {math.MaxFloat64, math.MaxFloat64}, {-1e-9, 1e-9}, {1e300, 1}} {
		for _, size := range [][2]int{{0, 0}, {20, 5}, {80, 24}} {
			c := Chart{From: noon, To: noon.Add(time.Hour), Width: size[0], Height: size[1]}
			for i, v := range values {
				c.Points = append(c.Points, at(i*600, v))
			}
			lines := c.Render()
			if len(lines) != max(5, size[1]) {
				t.Errorf("%v: %d lines, want %d", values, len(lines), size[1])
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > max(20, size[0]) {
					t.Errorf("%v: %d cells: %s", values, n, line)
				}
			}
		}
	}
}

func TestBrailleDots(t *testing.T) {
	c := newCanvas(1, 1, false)
	c.segment(0, 0, 1, 3)
	c.dot(5, 5)
	if got := c.lines()[0]; got != "⢣" {
		t.Errorf("got %q", got)
	}
}
