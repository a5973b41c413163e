package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Record is one entry of the audit log: what an operator did or tried to do.
// It never holds a secret.
type Record struct {
	Time     time.Time `json:"time"`
	Operator string    `json:"operator"`
	// OperatorID tells the operator from an earlier or later one of that name
	// (Operator.ID); "": not known.
	OperatorID string `json:"operator_id,omitempty"`
	Method     string `json:"method"`  // "DeviceService/RotateDevice"
	Subject    string `json:"subject"` // a device id, a command id, …
	Outcome    string `json:"outcome"` // "ok" or the error's code
	RemoteAddr string `json:"remote_addr,omitempty"`
	Detail     string `json:"detail,omitempty"`
	Reason     string `json:"reason,omitempty"` // the words of the error; "": none
}

// MaxAuditPage is the most records of one page.
const MaxAuditPage = 1000

// Audit adds a record. It is durable when Audit returns nil.
func (r *Registry) Audit(ctx context.Context, rec Record) error {
	return r.BeginAudit(rec)(ctx)
}

// BeginAudit begins to add a record. It is durable when wait, which is called
// once, returns nil. Records are listed in the order in which they were begun.
// When ctx ends first, the record may still be written.
func (r *Registry) BeginAudit(rec Record) (wait func(ctx context.Context) error) {
	line, err := rec.line()
	if err != nil {
		return func(context.Context) error { return err }
	}
	written := r.auditing.add(line)
	return func(ctx context.Context) error {
		select {
		case err = <-written:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("write audit record: %w", err)
		}
		return nil
	}
}

// OweAudit adds a record for which nobody waits: it is written some
// milliseconds later, together with others, and tried again until it is. What
// it tells of has to be durable itself, so that the caller can make the record
// good when a crash takes it away, within 15 s. False: the log cannot be
// written at present, or too many records are owed: use BeginAudit.
func (r *Registry) OweAudit(rec Record) bool {
	line, err := rec.line()
	return err == nil && r.auditing.owe(line)
}

// line is the encoded record.
func (rec Record) line() ([]byte, error) {
	if rec.Time.IsZero() {
		rec.Time = time.Now()
	}
	rec.Time = rec.Time.UTC()
	line, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode audit record: %w", err)
	}
	return line, nil
}

// ListAudit returns up to limit records, newest first. page is 0 for the
// first page and then the next of the page before; next is 0 after the last.
func (r *Registry) ListAudit(ctx context.Context, limit int, page uint64) (records []Record, next uint64, err error) {
	if limit < 1 || limit > MaxAuditPage {
		return nil, 0, fmt.Errorf("%w: a page has 1 to %d records, not %d", ErrInvalid, MaxAuditPage, limit)
	}
	if err := r.auditing.flush(ctx); err != nil {
		// A log that cannot be written can still be read.
		r.logger.Warn("the newest audit records are not written yet, and not listed", "error", err)
	}
	info, err := r.audit.Info(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read audit log: %w", err)
	}
	at := auditPlace{message: info.State.LastSeq, records: auditGroup}
	if page > 0 && auditPlaceOf(page).message <= at.message {
		at = auditPlaceOf(page)
	}
	for ; at.message >= info.State.FirstSeq && at.message > 0; at = at.before() {
		msg, err := r.audit.GetMsg(ctx, at.message)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // too old by now
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read audit record %d: %w", at.message, err)
		}
		lines := bytes.Split(msg.Data, []byte{'\n'})
		for n := min(len(lines), at.records); n > 0; n-- {
			if len(records) == limit {
				return records, auditPlace{at.message, n}.page(), nil
			}
			var rec Record
			if err := json.Unmarshal(lines[n-1], &rec); err != nil {
				r.logger.Error("unreadable audit record; left out", "sequence", at.message, "error", err)
				continue
			}
			records = append(records, rec)
		}
	}
	return records, 0, nil
}

// auditPlace is where a listing goes on: with the first so many records of a
// message, from the last of them back.
type auditPlace struct {
	message uint64
	records int // 1 to auditGroup
}

// auditPlaceOf is the reverse of page.
func auditPlaceOf(page uint64) auditPlace {
	return auditPlace{page / (auditGroup + 1), int(page % (auditGroup + 1))}
}

func (p auditPlace) page() uint64 { return p.message*(auditGroup+1) + uint64(p.records) }

// before is the message before.
func (p auditPlace) before() auditPlace { return auditPlace{p.message - 1, auditGroup} }
