package sinktest

import (
	"fmt"
	"sync"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// concurrent: writers of the same and of other devices, and readers that find
// in every field what belongs to its time. (InfluxDB shows a row that is being
// written field by field.)
func (s *suite) concurrent() {
	const writers, frames, rowsOf = 4, 20, 25
	var batches [writers][]telemetry.Batch
	for w := range writers {
		for f := range frames {
			own := make([]telemetry.Row, rowsOf)
			shared := make([]telemetry.Row, rowsOf)
			for i := range own {
				n := f*rowsOf + i
				own[i] = row(base.Add(time.Duration(n)*time.Second), "a", n, "b", -n)
				shared[i] = row(base.Add(time.Duration(n)*time.Second), "a", n, "b", -n)
			}
			batches[w] = append(batches[w], telemetry.NewBatch([]telemetry.Entry{
				s.entry(s.device(fmt.Sprint(w)), "", own...),
				s.entry(s.device("shared"), "", shared...),
			}))
		}
	}
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	errs := make(chan error, 100)
	for w := range writers {
		writing.Go(func() {
			for _, b := range batches[w] {
				if err := s.sink.Write(s.ctx(), b); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := s.readWhole(s.device("shared")); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	close(errs)
	for err := range errs {
		s.Error(err)
	}
	s.wantCount(s.device("shared"), frames*rowsOf)
	for w := range writers {
		s.wantCount(s.device(fmt.Sprint(w)), frames*rowsOf)
	}
}

func (s *suite) readWhole(device string) error {
	page, err := s.reader.Query(s.ctx(), telemetry.Query{Device: device})
	if err != nil {
		return err
	}
	for _, r := range page.Rows {
		n := int64(r.Time.Sub(base) / time.Second)
		for _, f := range r.Fields {
			if f.Name == "a" && f.Value.Int64() != n || f.Name == "b" && f.Value.Int64() != -n {
				return fmt.Errorf("row %d holds%s", n, showFields(r.Fields))
			}
		}
	}
	if _, err := s.reader.Latest(s.ctx(), device, ""); err != nil {
		return err
	}
	_, err = s.reader.Query(s.ctx(), telemetry.Query{Device: device, Aggregate: telemetry.Mean, Window: time.Minute})
	return err
}
