package plot

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// niceTicks are values with a step of 1, 2 or 5 times a power of ten that
// cover low to high in about n steps.
func niceTicks(low, high float64, n int) []float64 {
	raw := (high - low) / float64(n)
	if math.IsInf(raw, 0) || raw == 0 {
		return []float64{low, high}
	}
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if raw <= m*power {
			step = m * power
			break
		}
	}
	first := math.Floor(low / step)
	var ticks []float64
	for i := first; i*step < high+step/2 && len(ticks) <= 4*n; i++ {
		ticks = append(ticks, i*step)
	}
	if len(ticks) == 0 {
		return []float64{low, high}
	}
	if last := ticks[len(ticks)-1]; last < high && len(ticks) <= 4*n {
		ticks = append(ticks, last+step)
	}
	return ticks
}

// yLabels puts each tick on its row; gutter is the widest label's width.
func yLabels(ticks []float64, low, high float64, rows int) (labels []string, gutter int) {
	labels = make([]string, rows)
	step := high - low
	if len(ticks) > 1 {
		step = ticks[1] - ticks[0]
	}
	for _, t := range ticks {
		row := int(math.Round((high - t) / (high - low) * float64(rows-1)))
		if row < 0 || row >= rows || labels[row] != "" {
			continue
		}
		labels[row] = number(t, step)
		gutter = max(gutter, len(labels[row]))
	}
	return labels, gutter
}

// number writes v with the digits that its step needs.
func number(v, step float64) string {
	if m := math.Max(math.Abs(v), step); m >= 1e7 || m < 1e-4 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	digits := 0
	if step < 1 {
		digits = int(math.Ceil(-math.Log10(step) - 1e-9))
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Trim(s, "-0.") == "" {
		return strings.TrimPrefix(s, "-")
	}
	return s
}

// xLabels are the times at the left, in the middle and at the right.
func (c Chart) xLabels(columns int) string {
	zone := c.Zone
	if zone == nil {
		zone = time.UTC
	}
	span := c.To.Sub(c.From)
	layout := "2006-01-02"
	switch {
	case span <= 10*time.Minute:
		layout = "15:04:05"
	case span <= 24*time.Hour:
		layout = "15:04"
	case span <= 31*24*time.Hour:
		layout = "01-02 15:04"
	}
	line := []byte(strings.Repeat(" ", columns))
	put := func(at int, t time.Time) {
		text := t.In(zone).Format(layout)
		at = max(0, min(at, columns-len(text)))
		if at+len(text) > columns {
			return
		}
		for i := max(0, at-1); i < min(columns, at+len(text)+1); i++ {
			if line[i] != ' ' {
				return
			}
		}
		copy(line[at:], text)
	}
	put(0, c.From)
	put(columns, c.To)
	put(columns/2-len(layout)/2, c.From.Add(span/2))
	return strings.TrimRight(string(line), " ")
}
