package main

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// Exit statuses: scripts rely on them. They are those of hubctl.
const (
	exitOK          = 0
	exitFailed      = 1
	exitPartial     = 6
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// exitError is an error with an exit status of its own.
type exitError struct {
	status int
	error
}

func (e exitError) Unwrap() error { return e.error }

// exitOf is the exit status of an error, and the error in words for people:
// what comes of an interrupt is only that, whatever was under way.
func exitOf(ctx context.Context, err error) (int, error) {
	var own exitError
	switch {
	case errors.As(err, &own):
		return own.status, err
	case errors.Is(err, firmwaresim.ErrInterrupted), ctx.Err() != nil && wasCut(err):
		return exitInterrupted, firmwaresim.ErrInterrupted
	}
	return exitFailed, err
}

// wasCut holds for an error that the end of a context has made.
func wasCut(err error) bool {
	return errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled
}
