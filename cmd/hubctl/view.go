package main

import (
	"errors"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
)

// view is how one kind of answer is shown: as a table row for people, as a
// CSV record for programs, and alone as a page of details.
type view[T proto.Message] struct {
	table   []output.Column[T]
	csv     []output.Column[T]
	details func(T) []output.Detail // nil: a table of one row
	none    string                  // said when a table would be empty
}

// errHollow is an answer without what was asked for.
var errHollow = errors.New("the hub's answer is empty: is it a newer hub than this hubctl knows?")

// printOne writes a single answer.
func printOne[T proto.Message](a *app, v view[T], m T) error {
	if !m.ProtoReflect().IsValid() {
		return errHollow
	}
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, m)
	case output.CSV:
		w := output.NewCSV(a.stdout, a.screenWidth() > 0, v.csv)
		if err := w.Put(m); err != nil {
			return err
		}
		return w.Flush()
	}
	if v.details != nil {
		return output.WriteDetails(a.stdout, v.details(m))
	}
	return printTable(a, v, []T{m})
}

// printList writes many answers: JSON and CSV as they come, a table when all
// are there.
func printList[T proto.Message](a *app, v view[T], items iter.Seq2[T, error]) error {
	if a.out == output.Table {
		var rows []T
		for m, err := range items {
			if err != nil {
				return err
			}
			rows = append(rows, m)
		}
		return printTable(a, v, rows)
	}
	s := newStream(a, v, true)
	for m, err := range items {
		if err != nil {
			return err
		}
		if err := s.put(m); err != nil {
			return err
		}
	}
	return s.close()
}

func printTable[T proto.Message](a *app, v view[T], rows []T) error {
	if len(rows) == 0 && v.none != "" {
		a.notef("%s", v.none)
		return nil
	}
	hidden, err := output.WriteTable(a.stdout, a.screenWidth(), v.table, rows)
	if hidden > 0 {
		a.notef("%d more columns do not fit: widen the terminal, or use -o csv", hidden)
	}
	return err
}

// stream writes messages one by one: table lines, CSV records, and JSON as an
// array or as a line each.
type stream[T proto.Message] struct {
	a     *app
	lines *output.Lines[T]
	csv   *output.CSVWriter[T]
	array *output.Array
}

func newStream[T proto.Message](a *app, v view[T], array bool) *stream[T] {
	s := &stream[T]{a: a}
	switch {
	case a.out == output.CSV:
		s.csv = output.NewCSV(a.stdout, a.screenWidth() > 0, v.csv)
	case a.out == output.Table:
		s.lines = output.NewLines(a.stdout, a.screenWidth(), v.table)
	case array:
		s.array = output.NewArray(a.stdout)
	}
	return s
}

func (s *stream[T]) put(m T) error {
	switch {
	case s.csv != nil:
		if err := s.csv.Put(m); err != nil {
			return err
		}
		return s.csv.Flush()
	case s.lines != nil:
		return s.lines.Put(m)
	case s.array != nil:
		return s.array.Put(m)
	}
	return output.WriteLine(s.a.stdout, m)
}

func (s *stream[T]) close() error {
	switch {
	case s.csv != nil:
		return s.csv.Flush()
	case s.array != nil:
		return s.array.Close()
	}
	return nil
}

// paged walks the pages of a list up to limit items (0: all). fetch answers
// one page of at most size items and the token of the next.
func paged[T any](limit, pageSize uint32, fetch func(token string, size uint32) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		token := ""
		for left := limit; ; {
			size := pageSize
			if limit > 0 {
				size = min(size, left)
			}
			items, next, err := fetch(token, size)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
				if left--; limit > 0 && left == 0 {
					return
				}
			}
			if next == "" || next == token {
				return
			}
			token = next
		}
	}
}

// each makes a sequence of what is there already.
func each[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}
