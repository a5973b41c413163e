package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// parseSpan reads a duration: Go's units and d and w, such as 90s, 1h30m, 7d.
func parseSpan(s string) (time.Duration, error) {
	bad := func() (time.Duration, error) {
		return 0, usagef("%q is no duration: write 500ms, 90s, 5m, 1h30m, 7d or 2w", s)
	}
	var total time.Duration
	rest := s
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		i := strings.Index(rest, unit.name)
		if i < 0 {
			continue
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil || !(n >= 0) || n*float64(unit.size) > 1<<62 {
			return bad()
		}
		total += time.Duration(n * float64(unit.size))
		rest = rest[i+1:]
	}
	if rest != "" || s == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return bad()
		}
		total += d
	}
	if total < 0 {
		return bad()
	}
	return total, nil
}

// optionalSpan is nil for "".
func optionalSpan(s string) (*durationpb.Duration, error) {
	if s == "" {
		return nil, nil
	}
	d, err := parseSpan(s)
	if err != nil {
		return nil, err
	}
	return durationpb.New(d), nil
}

// parseTime reads a point in time: RFC 3339, a date or a date with a time of
// day in the zone, "now", or a distance before now such as "-1h".
func parseTime(s string, now time.Time, zone *time.Location) (time.Time, error) {
	text := strings.TrimSpace(s)
	if text == "now" {
		return now, nil
	}
	if back, ok := strings.CutPrefix(text, "-"); ok {
		d, err := parseSpan(back)
		if err != nil {
			return time.Time{}, err
		}
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("%q is no time: write 2026-03-01T12:00:00Z, 2026-03-01, \"2026-03-01 12:00\", now, or -1h for an hour ago", s)
}

// optionalTime is nil for "".
func optionalTime(s string, now time.Time, zone *time.Location) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	t, err := parseTime(s, now, zone)
	if err != nil {
		return nil, err
	}
	return timestamppb.New(t), nil
}

// parseLabels reads k=v pairs.
func parseLabels(pairs []string) (map[string]string, error) {
	labels := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, val, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("label %q: write key=value", pair)
		}
		if _, twice := labels[key]; twice {
			return nil, usagef("label %s is given twice", key)
		}
		labels[key] = val
	}
	return labels, nil
}

// share is what parseShare takes.
var share = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(%?)$`)

// parseShare reads "10%" or "0.1": above zero, and to 100%. What could be
// meant in two ways is none: 0% (never, or at once), 1 (1%, or all).
func parseShare(s string) (float64, error) {
	parts := share.FindStringSubmatch(s)
	if parts == nil {
		return 0, usagef("%q is no share: write 10%% or 0.1", s)
	}
	f, err := strconv.ParseFloat(parts[1], 64)
	percent := parts[2] != ""
	if percent {
		f /= 100
	}
	switch {
	case err != nil, f > 1:
		return 0, usagef("%q is no share: it is over 100%%; write 10%% or 0.1", s)
	case f == 0:
		return 0, usagef("%q is no share to stop at: 1%% stops at the first failure, and without the flag nothing stops it", s)
	case f == 1 && !percent:
		return 0, usagef("%q is no share: write 1%% or 100%%", s)
	}
	return f, nil
}

func parseUint(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}
