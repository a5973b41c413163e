package firmwaresim

import (
	"context"
	"fmt"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// shelf is what a device has in quarantine.
type shelf struct {
	rows bitmap
	sums map[uint32]uint64 // as those of ledgerRow, by number
}

// put takes a row. The same one may be refused twice, where its chunk is read
// again; not with two times, or different fields.
func (s *shelf) put(row ledgerRow) (same bool) {
	sum := row.sum()
	if !s.rows.set(row.n) {
		return s.sums[row.n] == sum
	}
	if s.sums == nil {
		s.sums = make(map[uint32]uint64)
	}
	s.sums[row.n] = sum
	return true
}

// wrongOnShelf counts the rows in quarantine that are not what their device
// has sent. That is known of acknowledged rows that the store must refuse.
func (c *rowCheck) wrongOnShelf() (n uint64) {
	for number, sum := range c.shelf {
		if sent, ok := c.d.ledger.poisoned[number]; ok && sent != sum {
			n++
		}
	}
	return n
}

// readQuarantine is the rows in quarantine, by device.
func (r *proof) readQuarantine(ctx context.Context) (map[string]shelf, error) {
	shelves := map[string]shelf{}
	index := make(map[string]int, len(r.devices))
	for i, d := range r.devices {
		index[d.id] = i
	}
	for token := ""; ; {
		var answer *operatorv1.ListQuarantineResponse
		err := persist(ctx, func() (err error) {
			answer, err = call(ctx, r.hub.shelf.ListQuarantine, &operatorv1.ListQuarantineRequest{PageSize: 1000, PageToken: token})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("quarantine: %w", err)
		}
		for _, row := range answer.Rows {
			i, ok := index[row.DeviceId]
			packed := row.Values[fieldNumber].GetIntValue()
			if packed == strangerRow {
				r.find(promiseProofs, "a row of somebody who had not proved himself is in quarantine under the name %s", row.DeviceId)
				continue
			}
			if !ok || packed>>32 != int64(i) || uint32(packed) >= r.devices[i].ledger.next {
				r.find(promiseOwnName, "row %d of device %d is in quarantine under the name %s", uint32(packed), packed>>32, row.DeviceId)
				continue
			}
			if row.Reason == "" {
				r.find(promiseStored, "row %d of %s is in quarantine without a reason", uint32(packed), row.DeviceId)
			}
			s := shelves[row.DeviceId]
			if !s.put(ledgerRow{n: uint32(packed), time: row.Time.AsTime().UnixNano(), fields: valuesSum(row.Values)}) {
				r.find(promiseStored, "row %d of %s is in quarantine twice, with different times or fields", uint32(packed), row.DeviceId)
			}
			shelves[row.DeviceId] = s
		}
		if token = answer.NextPageToken; token == "" {
			return shelves, nil
		}
	}
}

// persist tries for a while: nothing is wrong with the hub any more.
func persist(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}
