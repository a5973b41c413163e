package sinktest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// Questions that are wrong, and callers that have gone.

// hostile names must neither be answered nor reach the store's language.
var hostile = []string{
	`x' OR '1'='1`, `x"; DROP DATABASE t; --`, "x\n", "a b", "a,b", "a=b", `a\`, "ä", "*", "/.*/", "a.b", "x) |> drop()", "'", strings.Repeat("a", 65), "a\x00",
}

func (s *suite) badQueries() {
	device := s.device("d")
	s.write(device, row(base, "a", 1.0))
	for _, name := range append([]string{""}, hostile...) {
		_, err := s.reader.Query(s.ctx(), telemetry.Query{Device: name})
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Latest(s.ctx(), name, "")
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Fields(s.ctx(), name)
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Count(s.ctx(), name, "", time.Time{}, time.Time{})
		s.wantError(err, telemetry.ErrBadQuery)
	}
	for _, name := range hostile {
		_, err := s.reader.Query(s.ctx(), telemetry.Query{Device: device, Measurement: name})
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Query(s.ctx(), telemetry.Query{Device: device, Fields: []string{"a", name}})
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Latest(s.ctx(), device, name)
		s.wantError(err, telemetry.ErrBadQuery)
		_, err = s.reader.Count(s.ctx(), device, name, time.Time{}, time.Time{})
		s.wantError(err, telemetry.ErrBadQuery)
	}
	for _, q := range []telemetry.Query{
		{From: base, To: base.Add(-1)},
		{Limit: -1},
		{Limit: telemetry.MaxPageRows + 1},
		{Window: time.Hour},
		{Aggregate: telemetry.Mean, Window: time.Millisecond},
		{Aggregate: telemetry.Last + 1},
	} {
		q.Device = device
		_, err := s.reader.Query(s.ctx(), q)
		s.wantError(err, telemetry.ErrBadQuery)
	}
	s.wantCount(device, 1)
}

func (s *suite) badPageTokens() {
	device := s.device("d")
	s.write(device, row(base, "a", 1.0), row(base.Add(1), "a", 2.0))
	page, err := s.reader.Query(s.ctx(), telemetry.Query{Device: device, Limit: 1})
	if err != nil || page.NextPage == "" {
		s.Fatalf("%+v, %v", page, err)
	}
	for _, q := range []telemetry.Query{
		{Device: device, Page: "x"},
		{Device: device, Page: page.NextPage + "A"},
		{Device: s.device("other"), Page: page.NextPage},
		{Device: device, Page: page.NextPage, Fields: []string{"a"}},
		{Device: device, Page: page.NextPage, To: base.Add(time.Hour)},
		{Device: device, Page: page.NextPage, Aggregate: telemetry.Mean},
	} {
		_, err := s.reader.Query(s.ctx(), q)
		s.wantError(err, telemetry.ErrBadPageToken)
	}
}

func (s *suite) canceled() {
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	device := s.device("d")
	err := s.sink.Write(ctx, telemetry.NewBatch([]telemetry.Entry{s.entry(device, "", row(base, "a", 1.0))}))
	if !errors.Is(err, context.Canceled) || telemetry.ClassOf(err) != telemetry.Retry {
		s.Fatalf("write: %v", err)
	}
	if _, err := s.reader.Query(ctx, telemetry.Query{Device: device}); !errors.Is(err, context.Canceled) {
		s.Fatalf("query: %v", err)
	}
	s.wantCount(device, 0)
}
