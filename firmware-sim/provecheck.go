package firmwaresim

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// readers is how many devices are compared with the store at once.
const readers = 4

// checkRows compares each device's ledger with what the hub hands out: every
// row of the store, and the quarantine. The errors are of the hub not
// answering.
func (r *proof) checkRows(ctx context.Context) error {
	shelves, err := r.readQuarantine(ctx)
	if err != nil {
		return err
	}
	work := make(chan *provenDevice)
	errs := make(chan error, readers)
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for d := range work {
				c := newRowCheck(d, shelves[d.id])
				if err := c.readStore(ctx, r.hub); err != nil {
					select {
					case errs <- fmt.Errorf("rows of %s: %w", d.id, err):
					default:
					}
					continue
				}
				r.judge(c)
			}
		})
	}
	for _, d := range r.devices {
		work <- d
	}
	close(work)
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	r.judgeLost()
	if err := r.checkStranger(ctx); err != nil {
		return fmt.Errorf("rows of %s: %w", strangerID, err)
	}
	return r.checkBooks(ctx)
}

// rowCheck is the comparison of one device.
type rowCheck struct {
	d       *provenDevice
	shelved bitmap            // in quarantine
	shelf   map[uint32]uint64 // their sums, by number
	taken   uint64            // that the device's SDK says it was given
	waiting uint64            // that wait in its spool, or for it

	seen    bitmap
	sums    []uint64
	stored  uint64
	twice   uint64
	strange uint64
	changed uint64
	foreign uint64 // rows of another device under this one's name
	unknown uint64 // rows of somebody who had not proved himself, under this one's name
	example string
}

func newRowCheck(d *provenDevice, s shelf) *rowCheck {
	st := d.sim.stats()
	return &rowCheck{d: d, shelved: s.rows, shelf: s.sums, taken: st.RowsPublished, waiting: uint64(st.Spool.Rows + st.RowsOpen)}
}

// readStore reads the rows of the device, a page at a time.
func (c *rowCheck) readStore(ctx context.Context, h *provenHub) error {
	for token := ""; ; {
		var answer *operatorv1.QueryResponse
		err := persist(ctx, func() (err error) {
			answer, err = call(ctx, h.telemetry.Query, &operatorv1.QueryRequest{
				DeviceId: c.d.id, PageSize: 10_000, PageToken: token, // all fields
			})
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range answer.Rows {
			c.take(row.Time.AsTime().UnixNano(), row.Values)
		}
		if token = answer.NextPageToken; token == "" {
			return nil
		}
	}
}

func (c *rowCheck) take(at int64, values map[string]*operatorv1.Value) {
	c.stored++
	packed := values[fieldNumber].GetIntValue()
	row := ledgerRow{n: uint32(packed), time: at, fields: valuesSum(values)}
	switch {
	case packed == strangerRow:
		c.unknown++
		return
	case packed>>32 != int64(c.d.index):
		c.foreign++
		c.example = fmt.Sprintf("row %d of device %d at %s", uint32(packed), packed>>32, time.Unix(0, at).UTC())
		return
	case row.n >= c.d.ledger.next:
		c.strange++
		return
	case !c.seen.set(row.n):
		c.twice++
		return
	}
	if values[fieldValue].GetDoubleValue() != valueOf(c.d.index, row.n) {
		c.changed++
	}
	if !c.d.ledger.acked.has(row.n) || c.d.ledger.poison.has(row.n) {
		return // its time and other fields are known for acknowledged rows alone
	}
	for int(row.n/64) >= len(c.sums) {
		c.sums = append(c.sums, 0)
	}
	c.sums[row.n/64] += row.sum()
}

// judge adds the comparison of a device to the verdict.
func (r *proof) judge(c *rowCheck) {
	l, id := c.d.ledger, c.d.id
	lost := lostRows{device: id}
	var unaccounted, quarantined, innocent, rejectedStored, swallowed uint64
	books := c.books()
	for w := range int(l.next+63) / 64 {
		all := ^uint64(0)
		if rest := l.next - uint32(w)*64; rest < 64 {
			all = 1<<rest - 1
		}
		acked, seen, shelved := l.acked.word(w), c.seen.word(w), c.shelved.word(w)
		if missing := acked &^ seen &^ shelved; missing != 0 {
			byHub := missing & l.doubtful[doubtHub].word(w) &^ l.poison.word(w)
			byFull := missing & l.doubtful[doubtFull].word(w) &^ l.poison.word(w)
			lost.add(lostHub, w, byHub&^byFull)
			lost.add(lostFull, w, byFull&^byHub)
			lost.add(lostEither, w, byHub&byFull)
			poison := missing & l.poison.word(w) & (l.doubtful[doubtHub].word(w) | l.doubtful[doubtFull].word(w))
			lost.add(lostPoison, w, poison)
			lost.add(lostOtherwise, w, missing&^byHub&^byFull&^poison)
		} else if sound := acked &^ l.poison.word(w); sound != 0 && sound&seen == sound && l.sums[w] != c.sums[w] {
			c.changed++ // at least one of these 64
		}
		swallowed += uint64(bits.OnesCount64(acked & seen & l.mustNotBeStored(w) &^ shelved))
		unaccounted += uint64(bits.OnesCount64(all &^ acked &^ l.rejected.word(w) &^ l.dropped.word(w)))
		quarantined += uint64(bits.OnesCount64(shelved))
		innocent += uint64(bits.OnesCount64(shelved &^ l.poison.word(w)))
		rejectedStored += uint64(bits.OnesCount64(seen & l.rejected.word(w) &^ acked))
	}
	unaccounted -= min(unaccounted, books.InSpools)
	report := func(n uint64, p promise, what string) {
		if n > 0 {
			r.find(p, "%s: %d rows %s", id, n, what)
		}
	}
	report(unaccounted, theRun, "were published and neither acknowledged nor rejected nor dropped")
	report(innocent, promiseStored, "are in quarantine that nothing is wrong with")
	report(swallowed, promiseStored, "have text where the store takes numbers alone, and are stored as if they had none, and not in quarantine")
	report(c.wrongOnShelf(), promiseStored, "are in quarantine with another time or other fields than the device sent")
	report(rejectedStored, promiseStored, "are stored that the hub has rejected")
	report(c.twice, promiseOnce, "are stored a second time, under another time")
	report(c.strange, promiseOnce, "are stored that were never published")
	report(c.changed, promiseOnce, "are stored with another time or other fields than the device sent")
	report(c.unknown, promiseProofs, "are stored under its name that somebody sent who had not proved himself")
	if c.foreign > 0 {
		r.find(promiseOwnName, "%s: %d rows of another device are stored under its name: %s", id, c.foreign, c.example)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, lost)
	v := &r.verdict.Rows
	v.Published += uint64(l.next)
	v.Acknowledged += l.acked.count()
	v.Rejected += countBut(l.rejected, l.acked)
	v.Dropped += countBut(l.dropped, l.acked)
	v.Unaccounted += unaccounted
	v.Stored += c.stored
	v.Quarantined += quarantined
	v.Missing += lost.all()
	v.Twice += c.twice
	v.Changed += c.changed + c.wrongOnShelf()
	v.Strange += c.strange + c.foreign + c.unknown
	v.Books.add(books)
}

func countBut(b, but bitmap) (n uint64) {
	for i := range b {
		n += uint64(bits.OnesCount64(b[i] &^ but.word(i)))
	}
	return n
}
