package telemetry

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNormalizeFillsDefaults(t *testing.T) {
	q, err := Query{Device: "d", Fields: []string{"b", "a", "b"}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	if q.Measurement != DefaultMeasurement || q.Limit != DefaultPageRows || q.Location != time.UTC || strings.Join(q.Fields, ",") != "a,b" {
		t.Errorf("%+v", q)
	}
}

func TestNormalizeRefuses(t *testing.T) {
	now := time.Now()
	for name, q := range map[string]Query{
		"no device":            {},
		"device":               {Device: "a'b"},
		"measurement":          {Device: "d", Measurement: `m" or 1=1`},
		"field":                {Device: "d", Fields: []string{"a b"}},
		"long field":           {Device: "d", Fields: []string{strings.Repeat("a", 65)}},
		"digit first":          {Device: "d", Fields: []string{"1a"}},
		"empty field":          {Device: "d", Fields: []string{""}},
		"range":                {Device: "d", From: now, To: now.Add(-1)},
		"aggregate":            {Device: "d", Aggregate: Last + 1},
		"window of raw rows":   {Device: "d", Window: time.Minute},
		"short window":         {Device: "d", Aggregate: Mean, Window: time.Second - 1},
		"negative window":      {Device: "d", Aggregate: Mean, Window: -time.Second},
		"long window":          {Device: "d", Aggregate: Mean, Window: MaxWindow + 1},
		"limit":                {Device: "d", Limit: MaxPageRows + 1},
		"negative limit":       {Device: "d", Limit: -1},
		"more fields than are": {Device: "d", Fields: manyNames(MaxFields + 1)},
	} {
		if _, err := q.Normalize(); !errors.Is(err, ErrBadQuery) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = "f" + strings.Repeat("x", i%60) + string(rune('a'+i/60))
	}
	return names
}

func TestPageTokens(t *testing.T) {
	base := Query{Device: "d", Fields: []string{"a", "b"}, From: time.Unix(10, 0), Aggregate: Mean, Window: time.Hour}
	q, err := base.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	token := q.NextToken(12e9)
	q.Page, q.Limit = token, 7
	from, to, err := q.Span()
	if err != nil || from != 12e9 || to != MaxTime {
		t.Fatalf("%d, %d, %v", from, to, err)
	}
	for name, change := range map[string]func(*Query){
		"device":      func(q *Query) { q.Device = "e" },
		"measurement": func(q *Query) { q.Measurement = "m" },
		"fields":      func(q *Query) { q.Fields = []string{"a"} },
		"from":        func(q *Query) { q.From = time.Time{} },
		"to":          func(q *Query) { q.To = time.Unix(99, 0) },
		"aggregate":   func(q *Query) { q.Aggregate = Max },
		"window":      func(q *Query) { q.Window = time.Minute },
		"location":    func(q *Query) { q.Location = time.FixedZone("x", 3600) },
		"not base64":  func(q *Query) { q.Page = "%%%" },
		"truncated":   func(q *Query) { q.Page = token[:len(token)-2] },
		"long":        func(q *Query) { q.Page = token + token },
	} {
		other := q
		change(&other)
		if _, _, err := other.Span(); !errors.Is(err, ErrBadPageToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A token never widens the range.
	early := q
	early.Page = q.NextToken(5e9)
	if from, _, err := early.Span(); err != nil || from != 10e9 {
		t.Errorf("%d, %v", from, err)
	}
}

func TestSpanCutsToWhatAStoreHolds(t *testing.T) {
	lo, hi := Span(time.Date(1, 2, 3, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	if lo != MinTime || hi != MaxTime {
		t.Errorf("%d, %d", lo, hi)
	}
}
