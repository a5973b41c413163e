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
	ahead  registry.Record // was written before the outcome; its zero value: none
}

// describe takes down what the call is about.
func (c *call) describe(req connect.AnyRequest) {
	c.auditing.mu.Lock()
	defer c.auditing.mu.Unlock()
	c.auditing.record = registry.Record{
		Operator:   c.operator.Name,
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
// A call that has come out as auditAhead has recorded it needs no more. One
// that has not gets a second record, which says how it did come out.
func (s *Server) audit(ctx context.Context, err error) error {
	outcome := "ok"
	if err != nil {
		outcome = codeOf(err).String()
	}
	rec, ahead := callOf(ctx).auditRecord(outcome, "")
	if ahead.Outcome == rec.Outcome && ahead.Detail == rec.Detail {
		return nil
	}
	return s.writeAudit(ctx, s.deps.Registry.BeginAudit(rec))
}

// auditAhead begins to record that the call is granted, with what is about to
// be done, while that is being done; wait returns when the record is on disk
// or could not be written, which audit then tries again.
func (s *Server) auditAhead(ctx context.Context, detail string) (wait func()) {
	c := callOf(ctx)
	rec, _ := c.auditRecord("ok", detail)
	written := s.deps.Registry.BeginAudit(rec)
	return func() {
		if err := s.writeAudit(ctx, written); err != nil {
			s.log.Warn("an audit record was not written; trying again", "method", rec.Method, "operator", rec.Operator, "error", err)
			return
		}
		c.auditing.mu.Lock()
		defer c.auditing.mu.Unlock()
		c.auditing.ahead = rec
	}
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
