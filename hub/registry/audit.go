package registry

import (
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
	Time       time.Time `json:"time"`
	Operator   string    `json:"operator"`
	Method     string    `json:"method"`  // "DeviceService/RotateDevice"
	Subject    string    `json:"subject"` // a device id, a command id, …
	Outcome    string    `json:"outcome"` // "ok" or the error's code
	RemoteAddr string    `json:"remote_addr,omitempty"`
	Detail     string    `json:"detail,omitempty"`
}

// MaxAuditPage is the most records of one page.
const MaxAuditPage = 1000

// Audit adds a record. It is durable when Audit returns nil.
func (r *Registry) Audit(ctx context.Context, rec Record) error {
	if rec.Time.IsZero() {
		rec.Time = time.Now()
	}
	rec.Time = rec.Time.UTC()
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode audit record: %w", err)
	}
	if _, err := r.js.Publish(ctx, auditSubject, b); err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return nil
}

// ListAudit returns up to limit records, newest first. page is 0 for the
// first page and then the next of the page before; next is 0 after the last.
func (r *Registry) ListAudit(ctx context.Context, limit int, page uint64) (records []Record, next uint64, err error) {
	if limit < 1 || limit > MaxAuditPage {
		return nil, 0, fmt.Errorf("%w: a page has 1 to %d records, not %d", ErrInvalid, MaxAuditPage, limit)
	}
	info, err := r.audit.Info(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read audit log: %w", err)
	}
	at := info.State.LastSeq
	if page > 0 {
		at = min(at, page)
	}
	for ; at >= info.State.FirstSeq && at > 0; at-- {
		if len(records) == limit {
			return records, at, nil
		}
		msg, err := r.audit.GetMsg(ctx, at)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // too old by now
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read audit record %d: %w", at, err)
		}
		var rec Record
		if err := json.Unmarshal(msg.Data, &rec); err != nil {
			r.logger.Error("unreadable audit record; left out", "sequence", at, "error", err)
			continue
		}
		records = append(records, rec)
	}
	return records, 0, nil
}
