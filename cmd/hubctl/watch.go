package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

const (
	watchBackoffMin = 500 * time.Millisecond
	watchBackoffMax = 30 * time.Second
)

// watch reads a stream for as long as ctx lasts. When the hub goes away it
// says so and connects again, with growing pauses; an error that a new try
// would meet again, and one before the first connection, ends it. take gets
// each message and ends the watch with its error; errDone ends it well.
func watch[Req, Res any](ctx context.Context, a *app, req *Req,
	method func(context.Context, *connect.Request[Req]) (*connect.ServerStreamForClient[Res], error),
	take func(*Res) error,
) error {
	return watchFrom(ctx, a, false, req, method, take)
}

// watchFrom is watch; with known set a hub that cannot be reached at the
// begin does not end it either.
func watchFrom[Req, Res any](ctx context.Context, a *app, known bool, req *Req,
	method func(context.Context, *connect.Request[Req]) (*connect.ServerStreamForClient[Res], error),
	take func(*Res) error,
) error {
	var connected atomic.Bool
	connected.Store(known)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	for pause := watchBackoffMin; ; pause = min(2*pause, watchBackoffMax) {
		received, err := watchOnce(traced, req, method, take)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var stop takeError
		if errors.As(err, &stop) {
			if errors.Is(stop.error, errDone) {
				return nil
			}
			return stop.error
		}
		if err != nil && (!connected.Load() || !worthRetrying(err)) {
			return err
		}
		if received {
			pause = watchBackoffMin
		}
		wait := pause/2 + rand.N(pause/2)
		if err != nil {
			text, _ := a.explain(err)
			a.notef("lost the hub (%s); trying again in %s", text, span(wait))
		} else {
			a.notef("the hub ended the stream; trying again in %s", span(wait))
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// errDone is what take returns when it has seen enough.
var errDone = errors.New("done")

// takeError tells an error of take from one of the stream.
type takeError struct{ error }

func watchOnce[Req, Res any](ctx context.Context, req *Req,
	method func(context.Context, *connect.Request[Req]) (*connect.ServerStreamForClient[Res], error),
	take func(*Res) error,
) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := method(ctx, connect.NewRequest(req))
	if err != nil {
		return false, err
	}
	for stream.Receive() {
		received = true
		if err := take(stream.Msg()); err != nil {
			cancel() // Close would wait for the rest of an endless stream
			_ = stream.Close()
			return true, takeError{err}
		}
	}
	err = stream.Err()
	_ = stream.Close()
	return received, err
}

func worthRetrying(err error) bool {
	if lostAnswer(err) {
		return true
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeNotFound, connect.CodeInvalidArgument,
		connect.CodeUnimplemented, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return false
	}
	return true
}

// lostAnswer reports that an answer has broken off. Connect's client calls
// that an invalid argument, as if the hub had said so.
func lostAnswer(err error) bool {
	return connect.CodeOf(err) == connect.CodeInvalidArgument && !connect.IsWireError(err)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchFor bounds a watch by --for; 0 is no bound. The end of that time is a
// good end.
func watchFor(ctx context.Context, limit time.Duration, run func(context.Context) error) error {
	if limit <= 0 {
		return run(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := run(bounded)
	if bounded.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

func forFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "for", "", "end after this time, as 10m; unset: until Ctrl-C")
}

func parseBound(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := parseSpan(s)
	if err == nil && d == 0 {
		return 0, usagef("--for must be above zero")
	}
	return d, err
}
