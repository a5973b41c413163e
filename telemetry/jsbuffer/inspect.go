package jsbuffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// MaxListed bounds one List, in rows.
const MaxListed = 1000

// List is up to limit rows of the device, or of all devices where device is
// "", with IDs above after, in the order of their IDs. limit is from 1 to
// MaxListed; others are taken as the nearest of these.
func (q *Quarantine) List(ctx context.Context, device string, after uint64, limit int) ([]Quarantined, error) {
	limit = min(max(limit, 1), MaxListed)
	rows := make([]Quarantined, 0, min(limit, 64))
	for len(rows) < limit {
		msg, err := q.next(ctx, device, after)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, quarantined(msg))
		after = msg.Sequence
	}
	return rows, nil
}

// next is the first message with an ID above after, or ErrNotFound.
func (q *Quarantine) next(ctx context.Context, device string, after uint64) (*jetstream.RawStreamMsg, error) {
	subject := quarantineSubject + "*"
	if device != "" {
		if err := checkToken(device); err != nil {
			return nil, err
		}
		subject = quarantineSubject + device
	}
	return q.read(ctx, after+1, jetstream.WithGetMsgSubject(subject))
}

// checkToken keeps what is no device out of a subject.
func checkToken(device string) error {
	if len(device) > 64 || strings.ContainsAny(device, ".*> \t\r\n") {
		return fmt.Errorf("%.80q: %w", device, ErrNotFound)
	}
	return nil
}

// Get is the row of that ID, or an error that wraps ErrNotFound.
func (q *Quarantine) Get(ctx context.Context, id uint64) (Quarantined, error) {
	msg, err := q.read(ctx, id)
	if err != nil {
		return Quarantined{}, err
	}
	return quarantined(msg), nil
}

func (q *Quarantine) read(ctx context.Context, id uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if id == 0 {
		return nil, fmt.Errorf("row %d: %w", id, ErrNotFound)
	}
	msg, err := q.stream.GetMsg(ctx, id, opts...)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("row %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read row %d of the quarantine: %w", id, err)
	}
	return msg, nil
}

func quarantined(msg *jetstream.RawStreamMsg) Quarantined {
	row := Quarantined{
		ID:     msg.Sequence,
		Device: strings.TrimPrefix(msg.Subject, quarantineSubject),
		Since:  msg.Time,
		Reason: msg.Header.Get(headerReason),
		Bytes:  len(msg.Data),
	}
	entries, err := decodeChunk(msg.Data)
	if err != nil || row.Device == Undecodable {
		return row
	}
	row.Received = time.Unix(0, entries[0].Received)
	_ = wire.Rows(telemetry.NewBatch(entries), func(r *telemetry.Row) error {
		copied := *r
		copied.Fields = slices.Clone(r.Fields)
		row.Row = &copied
		return nil
	})
	return row
}

// Counts is how many rows are in quarantine.
type Counts struct {
	Rows     uint64
	ByDevice map[string]uint64 // Undecodable counts pieces
	Bytes    int64
	MaxBytes int64
}

// Count counts. It costs one round trip for every 100,000 devices.
func (q *Quarantine) Count(ctx context.Context) (Counts, error) {
	info, err := q.stream.Info(ctx, jetstream.WithSubjectFilter(quarantineSubject+"*"))
	if err != nil {
		return Counts{}, fmt.Errorf("count the rows in quarantine: %w", err)
	}
	counts := Counts{
		Rows:     info.State.Msgs,
		ByDevice: make(map[string]uint64, len(info.State.Subjects)),
		Bytes:    int64(info.State.Bytes),
		MaxBytes: info.Config.MaxBytes,
	}
	for subject, n := range info.State.Subjects {
		counts.ByDevice[strings.TrimPrefix(subject, quarantineSubject)] = n
	}
	return counts, nil
}
