package jsbuffer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Names of the quarantine in JetStream.
const (
	QuarantineName    = "QUARANTINE"
	quarantineSubject = "tl.quarantine."
	// Undecodable stands for the device of bytes that cannot be decoded. It
	// is no valid device id.
	Undecodable = "~undecodable"

	headerReason = "Tetherline-Reason"
)

// DefaultQuarantineBytes is the bound of a quarantine by default.
const DefaultQuarantineBytes = 256 << 20

// Bounds of Put.
const (
	maxReasonBytes = 1 << 10
	putParallel    = 64
)

// QuarantineConfig of a Quarantine.
type QuarantineConfig struct {
	// MaxBytes on disk; 0: DefaultQuarantineBytes; at least MinMaxBytes. When
	// it is full, rows that the store refuses stay in the buffer.
	MaxBytes int64
	Replicas int // of the stream; 0: 1
}

// Quarantine implements telemetry.Quarantine: one message for each row, with
// the reason why the store refused it. All methods may run at once.
type Quarantine struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

var _ telemetry.Quarantine = (*Quarantine)(nil)

// OpenQuarantine makes the stream, or takes over what is there.
func OpenQuarantine(ctx context.Context, js jetstream.JetStream, cfg QuarantineConfig) (*Quarantine, error) {
	def(&cfg.MaxBytes, DefaultQuarantineBytes)
	def(&cfg.Replicas, 1)
	if cfg.MaxBytes < MinMaxBytes {
		return nil, fmt.Errorf("quarantine: max bytes is %d; it must be at least %d", cfg.MaxBytes, MinMaxBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        QuarantineName,
		Description: "Rows that the store refuses, until an operator replays or drops them",
		Subjects:    []string{quarantineSubject + "*"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    cfg.MaxBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
	})
	if err != nil {
		return nil, fmt.Errorf("make the stream %s: %w", QuarantineName, err)
	}
	return &Quarantine{js: js, stream: stream}, nil
}

// Put implements telemetry.Quarantine. An entry that cannot be decoded goes
// in as a whole, as Undecodable. It returns an error that wraps
// telemetry.ErrFull when the quarantine is full; some rows may be in it then.
func (q *Quarantine) Put(ctx context.Context, b telemetry.Batch, reason string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(putParallel)
	skip, left := b.Skip, b.Rows
	for i := range b.Entries {
		if left == 0 {
			break
		}
		e := &b.Entries[i]
		rows := min(e.Rows-skip, left)
		part := telemetry.Batch{Entries: b.Entries[i : i+1], Skip: skip, Rows: rows}
		skip, left = 0, left-rows
		err := wire.Rows(part, func(row *telemetry.Row) error {
			data, err := encodeRow(e, row)
			if err != nil {
				return err
			}
			group.Go(func() error { return q.put(ctx, e.Device, data, reason) })
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			data := appendEntry([]byte{chunkVersion}, e)
			group.Go(func() error { return q.putRaw(ctx, data, reason+"; "+err.Error()) })
		}
	}
	return group.Wait()
}

// encodeRow is a chunk of one entry of one row.
func encodeRow(e *telemetry.Entry, row *telemetry.Row) ([]byte, error) {
	msg, err := wire.Encode(1, []telemetry.Row{*row})
	if err != nil {
		return nil, err
	}
	single := telemetry.Entry{Device: e.Device, Labels: e.Labels, Received: e.Received, Rows: 1, Telemetry: msg}
	return appendEntry(append(make([]byte, 0, 1+entrySize(&single)), chunkVersion), &single), nil
}

func (q *Quarantine) putRaw(ctx context.Context, data []byte, reason string) error {
	return q.put(ctx, Undecodable, data, reason)
}

// put writes one message. Its id is what it holds: putting it again within
// the stream's window, two minutes, changes nothing. A replayed row has
// another Received and with it another id, so that it is not taken for the
// one that the replay is about to delete.
func (q *Quarantine) put(ctx context.Context, device string, data []byte, reason string) error {
	sum := sha256.Sum256(data)
	msg := &nats.Msg{
		Subject: quarantineSubject + device,
		Data:    data,
		Header: nats.Header{
			headerReason:          {cleanReason(reason)},
			jetstream.MsgIDHeader: {base64.RawURLEncoding.EncodeToString(sum[:])},
		},
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := q.js.PublishMsg(ctx, msg)
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return fmt.Errorf("quarantine: %w; replay or drop rows, or raise its bound: %w", telemetry.ErrFull, err)
	}
	return fmt.Errorf("put a row into quarantine: %w", err)
}

// cleanReason makes s fit for a header.
func cleanReason(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxReasonBytes {
		s = strings.ToValidUTF8(s[:maxReasonBytes], "")
	}
	return strings.TrimSpace(s)
}

// Quarantined is a row in quarantine.
type Quarantined struct {
	ID       uint64         // rises with every row
	Device   string         // Undecodable for bytes without rows
	Row      *telemetry.Row // nil for bytes without rows
	Received time.Time      // by the hub; zero where it is not known
	Since    time.Time      // when it went into quarantine
	Reason   string         // the store's words
	Bytes    int
}

// ErrNotFound says that there is no row of that ID in quarantine.
var ErrNotFound = errors.New("no such row in quarantine")
