package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"

	"connectrpc.com/connect"
)

// guard is the interceptor around every handler.
type guard struct{ s *Server }

// WrapUnary implements connect.Interceptor.
func (g *guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c := callOf(ctx)
		c.received()
		c.single()
		c.sent() // nothing is being written yet, and the server's own limit is shorter than some calls
		rule := accessTable[req.Spec().Procedure]
		if rule.audited {
			c.describe(req)
		}
		res, err := g.unary(ctx, c, rule, req, next)
		if rule.audited {
			if failed := g.s.audit(ctx, err); failed != nil && err == nil {
				g.s.log.Error("a change is missing from the audit log", "procedure", req.Spec().Procedure,
					"operator", c.operator.Name, "subject", subjectOf(req.Any()), "error", failed)
				err = errNotAudited
			}
		}
		if err == nil {
			err = c.outlived(rule)
		}
		c.sending()
		if err != nil {
			return nil, g.s.answer(err, req.Spec().Procedure)
		}
		return res, nil
	}
}

// unary permits, bounds and calls.
func (g *guard) unary(ctx context.Context, c *call, rule access, req connect.AnyRequest, next connect.UnaryFunc) (res connect.AnyResponse, err error) {
	if !rule.permits(&c.operator) {
		return nil, errNoRole
	}
	if rule.finished {
		var detach func()
		ctx, detach = untilClosed(ctx)
		defer detach()
	}
	ctx, cancel := context.WithTimeout(ctx, rule.timeout)
	defer cancel()
	defer g.recovered(req.Spec().Procedure, &err)
	res, err = next(ctx, req)
	return res, becauseOf(ctx, err)
}

// outlived is the answer of a call that has succeeded and whose operator was
// removed meanwhile; nil: it was not.
func (c *call) outlived(rule access) error {
	if !errors.Is(context.Cause(c.under), errRevoked) {
		return nil
	}
	if !rule.audited {
		return errRevoked
	}
	rec, _ := c.auditRecord("ok", "")
	if rec.Method == deleteOperatorMethod && rec.Subject == rec.Operator {
		return nil // it was the call itself
	}
	done := strings.TrimSpace(rec.Method + " " + rec.Subject + " " + rec.Detail)
	return fmt.Errorf("%w while the call was under way; what it asked for has been done: %s", errRevoked, done)
}

const deleteOperatorMethod = "OperatorService/DeleteOperator"

// untilClosed is ctx without its end, but for that of the whole API.
func untilClosed(ctx context.Context) (context.Context, func()) {
	detached, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, errShuttingDown) {
			cancel(cause)
		}
	})
	return detached, func() { stop(); cancel(nil) }
}

// WrapStreamingHandler implements connect.Interceptor.
func (g *guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := g.stream(ctx, conn, next)
		if err == nil {
			return nil
		}
		return g.s.answer(err, conn.Spec().Procedure)
	}
}

func (g *guard) stream(ctx context.Context, conn connect.StreamingHandlerConn, next connect.StreamingHandlerFunc) (err error) {
	c := callOf(ctx)
	if !accessTable[conn.Spec().Procedure].permits(&c.operator) {
		return errNoRole
	}
	defer g.recovered(conn.Spec().Procedure, &err)
	return becauseOf(ctx, next(ctx, &timedConn{StreamingHandlerConn: conn, call: c}))
}

// WrapStreamingClient implements connect.Interceptor.
func (g *guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// recovered makes an error of a panic, so that one call's fault stays its own.
func (g *guard) recovered(procedure string, err *error) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		g.s.log.Error("operator call panicked", "procedure", procedure, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = errors.New("the handler panicked")
	}
}

// becauseOf tells why the call's context ended, where that is why err came.
func becauseOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	for _, reason := range []error{errRevoked, errShuttingDown} {
		if errors.Is(context.Cause(ctx), reason) {
			return reason
		}
	}
	return err
}

// timedConn gives the caller a bounded time to send its request and to take
// in each message.
type timedConn struct {
	connect.StreamingHandlerConn
	call *call
}

func (t *timedConn) Receive(msg any) error {
	err := t.StreamingHandlerConn.Receive(msg)
	t.call.received()
	return err
}

func (t *timedConn) Send(msg any) error {
	t.call.sending()
	defer t.call.sent()
	return t.StreamingHandlerConn.Send(msg)
}
