// Package plot draws a line chart with characters: in braille, eight dots to
// a cell, or in plain ASCII.
package plot

import (
	"math"
	"strings"
	"time"
)

// Point is one value at one time.
type Point struct {
	Time  time.Time
	Value float64
}

// Chart is what to draw. Points are in the order of time; those outside of
// From and To and those that are not finite are left out.
type Chart struct {
	Title    string
	Points   []Point
	From, To time.Time
	// Gap is the longest distance of two points that a line joins; 0: any.
	Gap time.Duration
	// Width and Height of the whole in cells, labels included; at least 20
	// and 5.
	Width, Height int
	ASCII         bool
	Zone          *time.Location // of the times below the chart
}

// Render draws the chart, a string a line. An empty chart has its axes alone.
func (c Chart) Render() []string {
	c.Width, c.Height = max(c.Width, 20), max(c.Height, 5)
	points := c.visible()
	low, high := bounds(points)
	ticks := niceTicks(low, high, max(2, (c.Height-3)/3))
	low, high = math.Min(low, ticks[0]), math.Max(high, ticks[len(ticks)-1])

	rows := c.Height - 2 // the x axis and its labels
	if c.Title != "" {
		rows--
	}
	labels, gutter := yLabels(ticks, low, high, rows)
	columns := max(1, c.Width-gutter-1)
	area := newCanvas(columns, rows, c.ASCII)
	c.line(area, points, low, high)

	var out []string
	if c.Title != "" {
		out = append(out, c.Title)
	}
	axis, corner, dash, tick := "│", "└", "─", "┤"
	if c.ASCII {
		axis, corner, dash, tick = "|", "+", "-", "+"
	}
	for i, text := range area.lines() {
		edge := axis
		if labels[i] != "" {
			edge = tick
		}
		line := strings.Repeat(" ", gutter-len(labels[i])) + labels[i] + edge + text
		out = append(out, strings.TrimRight(line, " "))
	}
	out = append(out, strings.Repeat(" ", gutter)+corner+strings.Repeat(dash, columns))
	return append(out, strings.Repeat(" ", gutter+1)+c.xLabels(columns))
}

func (c Chart) visible() []Point {
	var points []Point
	for _, p := range c.Points {
		if math.IsNaN(p.Value) || math.IsInf(p.Value, 0) || p.Time.Before(c.From) || p.Time.After(c.To) {
			continue
		}
		points = append(points, p)
	}
	return points
}

// line joins the points dot by dot.
func (c Chart) line(area *canvas, points []Point, low, high float64) {
	span := c.To.Sub(c.From).Seconds()
	if span <= 0 {
		span = 1
	}
	place := func(p Point) (x, y int) {
		return dotAt(p.Time.Sub(c.From).Seconds()/span, area.dotsX), dotAt((high-p.Value)/(high-low), area.dotsY)
	}
	for i, p := range points {
		x, y := place(p)
		if i == 0 || c.Gap > 0 && p.Time.Sub(points[i-1].Time) > c.Gap {
			area.dot(x, y)
			continue
		}
		x0, y0 := place(points[i-1])
		area.segment(x0, y0, x, y)
	}
}

// dotAt is the dot at a share of n dots. Values near the end of what a float
// holds make shares that are no numbers; they must not leave the canvas.
func dotAt(share float64, n int) int {
	if !(share > 0) {
		return 0
	}
	return int(math.Round(math.Min(share, 1) * float64(n-1)))
}

func bounds(points []Point) (low, high float64) {
	if len(points) == 0 {
		return 0, 1
	}
	low, high = points[0].Value, points[0].Value
	for _, p := range points {
		low, high = math.Min(low, p.Value), math.Max(high, p.Value)
	}
	if low == high {
		d := math.Max(math.Abs(low)*0.05, 0.5)
		return low - d, high + d
	}
	return low, high
}
