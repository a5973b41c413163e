package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// machineTime is a time for programs: RFC 3339 in UTC, "" when unset.
func machineTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

// humanTime is a time for people, in the zone of the user.
func humanTime(t *timestamppb.Timestamp, zone *time.Location) string {
	if t == nil {
		return ""
	}
	return t.AsTime().In(zone).Format("2006-01-02 15:04:05.000 MST")
}

// secondTime is humanTime for tables: to the second, without the zone.
func secondTime(t *timestamppb.Timestamp, zone *time.Location) string {
	if t == nil {
		return ""
	}
	return t.AsTime().In(zone).Format(time.DateTime)
}

// clock is the time of day of something that happens now.
func clock(t *timestamppb.Timestamp, zone *time.Location) string {
	if t == nil {
		return ""
	}
	return t.AsTime().In(zone).Format("15:04:05.000")
}

// ago is how long ago t was, "" when unset.
func ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	d := time.Since(t.AsTime())
	if d < 0 {
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// age is how long ago t was in its largest unit, "" when unset.
func age(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	words := strings.Fields(span(max(0, time.Since(t.AsTime()))))
	return strings.Join(words[:2], " ")
}

// span is a duration in its one or two largest units: "3 d 4 h", "12 s".
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(float64(d.Milliseconds()/100)/10, 'f', -1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return two(int(d/time.Minute), "min", int(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "min")
	}
	return two(int(d/(24*time.Hour)), "d", int(d%(24*time.Hour)/time.Hour), "h")
}

func two(n int, unit string, rest int, small string) string {
	if rest == 0 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %s %d %s", n, unit, rest, small)
}

func spanOf(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return span(d.AsDuration())
}

// value is a reading as text; floats have the digits they need and no more.
func value(v *operatorv1.Value) string {
	switch x := v.GetValue().(type) {
	case *operatorv1.Value_DoubleValue:
		return strconv.FormatFloat(x.DoubleValue, 'g', -1, 64)
	case *operatorv1.Value_IntValue:
		return strconv.FormatInt(x.IntValue, 10)
	case *operatorv1.Value_BoolValue:
		return strconv.FormatBool(x.BoolValue)
	case *operatorv1.Value_StringValue:
		return x.StringValue
	}
	return ""
}

// reading is a value for people: what was stored in 32 bits has the digits of
// 32 bits, 59.41 in place of 59.40999984741211. Whole numbers, which may be
// counts, keep all of theirs.
func reading(v *operatorv1.Value) string {
	text := value(v)
	if x, ok := v.GetValue().(*operatorv1.Value_DoubleValue); ok && x.DoubleValue != math.Trunc(x.DoubleValue) && float64(float32(x.DoubleValue)) == x.DoubleValue {
		if short := strconv.FormatFloat(x.DoubleValue, 'g', -1, 32); len(short) < len(text) {
			return short
		}
	}
	return text
}

// readingPairs is one line of "name=value" for people, in the order of names.
func readingPairs(values map[string]*operatorv1.Value) string { return pairs(values, reading) }

// valuePairs is the same with every digit, for programs.
func valuePairs(values map[string]*operatorv1.Value) string { return pairs(values, value) }

func pairs(values map[string]*operatorv1.Value, text func(*operatorv1.Value) string) string {
	all := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, name+"="+text(values[name]))
	}
	return strings.Join(all, " ")
}

func labelPairs(labels map[string]string, separator string) string {
	pairs := make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return strings.Join(pairs, separator)
}

// enumName is the value's name without the prefix of its type, in lower case
// or as it is.
func enumName(full, prefix string) string { return strings.TrimPrefix(full, prefix) }

func stateName(s operatorv1.CommandState) string { return enumName(s.String(), "COMMAND_STATE_") }

func kindName(k operatorv1.FieldKind) string {
	if k == operatorv1.FieldKind_FIELD_KIND_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(enumName(k.String(), "FIELD_KIND_"))
}

func aggregateName(g operatorv1.Aggregate) string {
	return strings.ToLower(enumName(g.String(), "AGGREGATE_"))
}

func roleName(r operatorv1.Role) string { return strings.ToLower(enumName(r.String(), "ROLE_")) }

func replayName(r operatorv1.ReplayClass) string {
	if r == operatorv1.ReplayClass_REPLAY_CLASS_UNSPECIFIED {
		r = operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED
	}
	return strings.ReplaceAll(strings.ToLower(enumName(r.String(), "REPLAY_CLASS_")), "_", "-")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number[N ~int | ~uint32 | ~uint64 | ~int64](n N) string { return fmt.Sprint(n) }

// grouped writes a count with commas: 1,234,567.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// byteSize is a size in binary units.
func byteSize(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 6 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTPE"[unit])
}
