package firmwaresim

import (
	"bytes"
	"context"
	"fmt"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A store that is well, and answers each write with 500 that has one row in it,
// again and again, has something against that row: it belongs into quarantine.
// That takes a hub some 20 s, in which it must meet nothing else.
const (
	stubbornFault    = "row-500"       // of refusingStore; no fault of a schedule
	stubbornPatience = 2 * time.Minute // until then it is given up, and says nothing
)

// tryStubbornRow has one row be such a one, until it is in quarantine. Where
// that takes too long the store takes it in the end: then it may be stored.
// Lost it must not be.
func (r *proof) tryStubbornRow(ctx context.Context) error {
	if r.store == nil || !r.wanted("store-5xx") {
		return nil
	}
	s, err := newRefusingStore(r.store.addr, stubbornFault, r.cfg.Seed)
	if err != nil {
		return err
	}
	defer s.close()
	r.say("one row for which the store answers 500 until it is in quarantine")
	r.store.link.lead(s.addr)
	defer r.store.link.lead(r.store.addr)
	d := r.devices[1]
	d.ledger.pardon(true)
	d.stubborn.Store(true)
	for end := time.Now().Add(stubbornPatience); time.Now().Before(end) && sleep(ctx, 200*time.Millisecond); {
		if s.refused.Load() > 0 && r.onShelf(ctx, d, fieldStubborn) {
			r.count.stubborn.Store(s.refused.Load())
			d.ledger.pardon(false)
			break
		}
	}
	d.stubborn.Store(false) // it may not have measured since
	return nil
}

// onShelf reports whether a row with that field is in quarantine.
func (r *proof) onShelf(ctx context.Context, d *provenDevice, field string) bool {
	for token := ""; ; {
		answer, err := call(ctx, r.hub.shelf.ListQuarantine, &operatorv1.ListQuarantineRequest{DeviceId: d.id, PageSize: 1000, PageToken: token})
		if err != nil {
			return false
		}
		for _, row := range answer.Rows {
			if _, ok := row.Values[field]; ok {
				return true
			}
		}
		if token = answer.NextPageToken; token == "" {
			return false
		}
	}
}

// hasStubborn reports whether a write has the row in it.
func hasStubborn(body []byte) bool { return bytes.Contains(body, []byte(fieldStubborn+"=")) }

func (r *proof) stubbornEvidence() string {
	if n := r.count.stubborn.Load(); n > 0 {
		return fmt.Sprintf("; one row that the store answered with 500, %d times, while it took others, is among those in quarantine", n)
	}
	return ""
}
