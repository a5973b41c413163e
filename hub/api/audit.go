package api

import (
	"context"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
)

// auditTimeout is for the record of a call, whose own time may be over.
const auditTimeout = 10 * time.Second

// auditing is a call's way into the audit log.
type auditing struct {
	mu     sync.Mutex
	record registry.Record // of the call, but for its time and its outcome
	noted  string          // what was done
	ahead  registry.Record // is written before the call has come out; its zero value: none
}

// describe takes down what the call is about.
func (c *call) describe(req connect.AnyRequest) {
	c.auditing.mu.Lock()
	defer c.auditing.mu.Unlock()
	c.auditing.record = registry.Record{
		Operator:   c.operator.Name,
		OperatorID: c.operator.ID(),
		Method:     shortMethod(req.Spec().Procedure),
		Subject:    subjectOf(req.Any()),
		RemoteAddr: c.addr,
		Detail:     detailOf(req.Any()),
	}
}

// note adds what was done to the call's audit record.
func (c *call) note(detail string) {
	c.auditing.mu.Lock()
	defer c.auditing.mu.Unlock()
	c.auditing.noted = detail
}

// auditRecord is the record of the call.
func (c *call) auditRecord(outcome, detail string) (rec, ahead registry.Record) {
	a := &c.auditing
	a.mu.Lock()
	defer a.mu.Unlock()
	rec, ahead = a.record, a.ahead
	rec.Time, rec.Outcome = time.Now(), outcome
	for _, more := range []string{detail, a.noted, ahead.Detail} {
		if more != "" {
			rec.Detail = more
			break
		}
	}
	return rec, ahead
}

// audit records a call that changes something, whatever its outcome, before
// it is answered. A caller who goes away does not go unrecorded.
//
// A call that has come out as auditLater has recorded it needs no more. One
// that has not gets a second record, which says how it did come out.
func (s *Server) audit(ctx context.Context, err error) error {
	outcome := "ok"
	if err != nil {
		outcome = codeOf(err).String()
	}
	rec, ahead := callOf(ctx).auditRecord(outcome, "")
	rec.Reason = clip(said(err), maxAuditReason)
	if ahead.Outcome == rec.Outcome && ahead.Detail == rec.Detail {
		return nil
	}
	return s.writeAudit(ctx, s.deps.Registry.BeginAudit(rec))
}

// auditLater has it recorded soon that the call has done what detail says.
// What was done is durable, and tells all of it but the caller's address, so
// that mendAudit writes after a kill what the kill has prevented.
func (s *Server) auditLater(ctx context.Context, detail string) {
	c := callOf(ctx)
	rec, _ := c.auditRecord("ok", detail)
	if !s.deps.Registry.OweAudit(rec) {
		return // audit writes it, and the call waits
	}
	c.auditing.mu.Lock()
	defer c.auditing.mu.Unlock()
	c.auditing.ahead = rec
}

// writeAudit waits for a record, also when the caller has gone.
func (s *Server) writeAudit(ctx context.Context, written func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return written(ctx)
}

// shortMethod is "DeviceService/GetDevice".
func shortMethod(procedure string) string {
	return procedure[strings.LastIndexByte(procedure, '.')+1:]
}
