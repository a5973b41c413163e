package profile

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// timeSettings say where the time of a document stands, and how.
type timeSettings struct {
	Path string `yaml:"path"` // as those of fields
	// Format is unix, unix_ms, unix_us, unix_ns, rfc3339, or a layout of Go's
	// package time: "2006-01-02 15:04:05".
	Format string `yaml:"format"`
	// Zone is of times that name none: "Europe/Berlin"; "": UTC.
	Zone string `yaml:"zone"`
}

// timeField reads times.
type timeField struct {
	path   string
	unit   int64 // ns of one unit of a number; 0: the layout counts
	layout string
	zone   *time.Location
}

var unixUnits = map[string]int64{"unix": 1e9, "unix_s": 1e9, "unix_ms": 1e6, "unix_us": 1e3, "unix_ns": 1}

// newTimeField checks the settings; nil for nil.
func newTimeField(s *timeSettings) (*timeField, error) {
	if s == nil {
		return nil, nil
	}
	if s.Path == "" {
		return nil, errors.New("path: it takes the keys down to the time")
	}
	t := &timeField{path: s.Path, unit: unixUnits[s.Format], layout: s.Format}
	var err error
	if t.zone, err = loadZone(s.Zone); err != nil {
		return nil, err
	}
	switch {
	case s.Format == "rfc3339":
		t.layout = time.RFC3339Nano
	case t.unit == 0:
		probe := time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC)
		back, err := time.Parse(t.layout, probe.Format(t.layout))
		if err != nil || !back.Equal(probe) {
			return nil, fmt.Errorf("format: %s is none of unix, unix_ms, unix_us, unix_ns, rfc3339 and no layout with date and time, as \"2006-01-02 15:04:05\"", quoted(s.Format))
		}
	}
	return t, nil
}

func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("zone: %w; it takes a name as \"Europe/Berlin\"", err)
	}
	return zone, nil
}

// of is the time in Unix ns that a leaf tells, or 0 and why it cannot be
// used.
func (t *timeField) of(l Leaf, received time.Time) (int64, error) {
	var ns int64
	if t.unit != 0 {
		var ok bool
		if ns, ok = scale(l.text(), t.unit); !ok {
			return 0, fmt.Errorf("time %s is no number: the time of arrival is used", quoted(l.text()))
		}
	} else {
		v, err := time.ParseInLocation(t.layout, l.text(), t.zone)
		if err != nil {
			return 0, fmt.Errorf("time %s is not as %s: the time of arrival is used", quoted(l.text()), t.layout)
		}
		if v.Year() < 1700 || v.Year() > 2200 {
			return 0, fmt.Errorf("time %s is out of range: the time of arrival is used", quoted(l.text()))
		}
		ns = v.UnixNano()
	}
	return checkTime(ns, received)
}

// checkTime refuses a time that a store would not take.
func checkTime(ns int64, received time.Time) (int64, error) {
	now := received.UnixNano()
	if ns < now-int64(telemetry.MaxPast) || ns > now+int64(telemetry.MaxFuture) {
		return 0, fmt.Errorf("time %s is out of range: the time of arrival is used", time.Unix(0, ns).UTC().Format(time.RFC3339))
	}
	return ns, nil
}

// scale makes Unix ns of a number without losing digits that a float64 does
// not hold.
func scale(text string, unit int64) (ns int64, ok bool) {
	if v, ok := parseInt(text); ok {
		if v > math.MaxInt64/unit || v < math.MinInt64/unit {
			return 0, false
		}
		return v * unit, true
	}
	if v, ok := parseNumber(text); !ok || math.Abs(v)*float64(unit) > math.MaxInt64/2 || len(text) > 40 {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, false
	}
	r.Mul(r, new(big.Rat).SetInt64(unit))
	return new(big.Int).Quo(r.Num(), r.Denom()).Int64(), true
}

// timeNames are the keys under which gear usually tells its time, in small
// letters.
var timeNames = []string{"ts", "time", "timestamp", "datetime", "date_time", "epoch", "unixtime", "unix_time", "_timestamp"}

// How far the time of a message may be from that of its arrival to be taken
// for one: others are counters, or of clocks that are not set.
const (
	oldestSample = 366 * 24 * time.Hour
	newestSample = 24 * time.Hour
)

// recogniseTime finds where a document tells its time, and how; "": nowhere.
// What stands least deep counts.
func recogniseTime(leaves []Leaf, received time.Time) (path, format string) {
	least, place := 0, 0
	for _, l := range leaves {
		keys := splitPath(l.Path)
		at := slices.Index(timeNames, strings.ToLower(keys[len(keys)-1]))
		if at < 0 || path != "" && (len(keys) > least || len(keys) == least && at >= place) {
			continue
		}
		if f := timeFormat(l, received); f != "" {
			path, format, least, place = l.Path, f, len(keys), at
		}
	}
	return path, format
}

// timeFormat is how a leaf tells a time near that of arrival; "": it does not.
// A time without a zone is none: it would have to be asked for.
func timeFormat(l Leaf, received time.Time) string {
	near := func(ns int64) bool {
		d := received.UnixNano() - ns
		return -int64(newestSample) <= d && d <= int64(oldestSample)
	}
	if t, err := time.Parse(time.RFC3339Nano, l.text()); err == nil && near(t.UnixNano()) {
		return "rfc3339"
	}
	for _, f := range []string{"unix", "unix_ms", "unix_us", "unix_ns"} {
		if ns, ok := scale(l.text(), unixUnits[f]); ok && near(ns) {
			return f
		}
	}
	return ""
}
