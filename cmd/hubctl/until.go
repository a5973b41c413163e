package main

import (
	"context"
	"errors"
	"time"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
)

// untilPause is between two looks at the hub.
const untilPause = 200 * time.Millisecond

// notYet is an error that waiting may mend: what is asked for is not there.
type notYet struct{ error }

func (e notYet) Unwrap() error { return e.error }

// until looks again and again until there is no error, or one that waiting
// does not mend, or the time is over: then with the last error. A hub that
// does not answer yet is waited for, and so is a data folder that it has not
// filled; with a time of 0 there is one look.
func (a *app) until(ctx context.Context, most time.Duration, look func(api *connection.Clients) error) error {
	if most < 0 {
		return usagef("--wait must not be below zero")
	}
	over := time.NewTimer(most)
	defer over.Stop()
	for {
		api, err := a.connect()
		if err == nil {
			err = look(api)
		}
		if err == nil || !a.mayCome(err) || most == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return err
		case <-time.After(untilPause):
		}
	}
}

// mayCome tells whether an error may be gone at the next look. Where the hub
// did not answer, its address is looked up anew: one that starts writes it, and
// its first token, into the data folder.
func (a *app) mayCome(err error) bool {
	if errors.As(err, new(notYet)) {
		return true
	}
	switch _, code := a.explain(err); {
	case code == exitNotFound:
		return true
	case code == exitUnreachable:
	case a.given.Data != "" && (code == exitUnauthorized || errors.Is(err, connection.ErrSettings)):
	default:
		return false
	}
	if a.api != nil {
		a.api.Close()
		a.api = nil
	}
	return true
}
