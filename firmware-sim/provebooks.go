package firmwaresim

import (
	"context"
	"math/bits"
)

// Books say where each row is that the devices have generated: in exactly one
// place. They balance where Lost is 0 and Generated is the sum of the others.
type Books struct {
	// Generated is counted by the devices' SDK; what became of each row is
	// looked up by its number.
	Generated   uint64 `json:"generated"`
	Stored      uint64 `json:"stored"`
	Quarantined uint64 `json:"quarantined"`
	Rejected    uint64 `json:"rejected"`  // by the hub: their time was out of range
	Dropped     uint64 `json:"dropped"`   // and counted as that by their device
	InSpools    uint64 `json:"in_spools"` // of devices, still
	Lost        uint64 `json:"lost"`      // in none of these
	// Nevertheless is how many of the stored ones their device has dropped, or
	// believes to be rejected: it did not hear that the hub had them.
	Nevertheless uint64 `json:"stored_nevertheless"`
}

// sum of all places that a row can be in.
func (b *Books) sum() uint64 {
	return b.Stored + b.Quarantined + b.Rejected + b.Dropped + b.InSpools
}

// balance reports whether every row that was generated is somewhere, and no
// row anywhere that was not.
func (b *Books) balance() bool { return b.Lost == 0 && b.Generated == b.sum() }

func (b *Books) add(o Books) {
	b.Generated += o.Generated
	b.Stored += o.Stored
	b.Quarantined += o.Quarantined
	b.Rejected += o.Rejected
	b.Dropped += o.Dropped
	b.InSpools += o.InSpools
	b.Lost += o.Lost
	b.Nevertheless += o.Nevertheless
}

// books of one device, after its rows were read from store and quarantine.
func (c *rowCheck) books() Books {
	l := c.d.ledger
	b := Books{Generated: c.taken}
	var nowhere uint64
	count := func(w uint64) uint64 { return uint64(bits.OnesCount64(w)) }
	for w := range int(l.next+63) / 64 {
		all := ^uint64(0)
		if rest := l.next - uint32(w)*64; rest < 64 {
			all = 1<<rest - 1
		}
		b.Nevertheless += count(c.seen.word(w) & (l.dropped.word(w) | l.rejected.word(w)))
		for _, place := range []struct {
			rows bitmap
			n    *uint64
		}{{c.seen, &b.Stored}, {c.shelved, &b.Quarantined}, {l.rejected, &b.Rejected}, {l.dropped, &b.Dropped}} {
			*place.n += count(all & place.rows.word(w))
			all &^= place.rows.word(w)
		}
		// What the hub has acknowledged is no longer in a spool.
		b.Lost += count(all & l.acked.word(w))
		nowhere += count(all &^ l.acked.word(w))
	}
	b.InSpools = min(nowhere, c.waiting)
	b.Lost += nowhere - b.InSpools
	return b
}

// ledgerRows are of a run that ended before store and hub could be read:
// what became of acknowledged rows is not known.
func (r *proof) ledgerRows() {
	v := &r.verdict.Rows
	*v = RowsProved{}
	for _, d := range r.devices {
		l := d.ledger
		l.mu.Lock()
		v.Published += uint64(l.next)
		v.Acknowledged += l.acked.count()
		v.Rejected += countBut(l.rejected, l.acked)
		v.Dropped += countBut(l.dropped, l.acked)
		l.mu.Unlock()
		st := d.sim.stats()
		v.Books.InSpools += uint64(st.Spool.Rows + st.RowsOpen)
	}
	v.Unaccounted = v.Published - min(v.Published, v.Acknowledged+v.Rejected+v.Dropped+v.Books.InSpools)
}

// checkBooks looks whether the rows add up, and whether the store itself has
// as many as the hub hands out.
func (r *proof) checkBooks(ctx context.Context) error {
	v := &r.verdict.Rows
	// Rows that are lost have been found with the promises that they break.
	if b := &v.Books; b.Generated != b.sum()+b.Lost || b.Lost > v.Missing+v.Unaccounted {
		r.find(theRun, "the books do not add up: %d rows generated, %d found, %d lost", b.Generated, b.sum(), b.Lost)
	}
	if r.store == nil {
		return nil
	}
	var counted uint64
	if err := persist(ctx, func() (err error) {
		counted, err = r.store.count(ctx)
		return err
	}); err != nil {
		return err
	}
	r.judgeCounted(counted)
	return nil
}

// judgeCounted compares what the store itself counts with what the hub hands
// out. A row that is stored in two series, under the same time, is handed out
// once.
func (r *proof) judgeCounted(counted uint64) {
	v := &r.verdict.Rows
	handed := v.Stored + r.strangerRows
	switch {
	case counted > handed:
		v.Twice += counted - handed
		r.find(promiseOnce, "InfluxDB itself counts %d rows, %d more than the hub hands out: these are there twice, in other series", counted, counted-handed)
	case counted < handed:
		r.find(theRun, "InfluxDB itself counts %d rows, and the hub hands out %d", counted, handed)
	}
}
