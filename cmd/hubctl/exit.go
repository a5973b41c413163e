package main

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Exit codes: scripts rely on them.
const (
	exitOK           = 0
	exitError        = 1
	exitUsage        = 2
	exitUnauthorized = 3
	exitNotFound     = 4
	exitUnreachable  = 5
	exitPartial      = 6
	exitFailed       = 10
	exitRejected     = 11
	exitTimedOut     = 12
	exitExpired      = 13
	exitCanceled     = 14
	exitInterrupted  = 130 // 128 + SIGINT, as shells have it
)

const exitCodesText = `Exit codes:
  0    it worked; 'command send --wait': the command SUCCEEDED
  1    any other error; 'status': the hub is not ready
  2    the command line is wrong, or the hub does not take what it says
       (a bad id, label or selector); nothing was done
  3    the token is missing, wrong, or may not do this
  4    there is no such device, command, row or operator
  5    the hub cannot be reached, does not answer in time (its NATS may be
       away), or its certificate is not trusted
  6    some of many things failed ('device import', group commands)
  10   'command send --wait': the command FAILED on the device
  11   ... the device REJECTED it
  12   ... it TIMED_OUT: delivered, or sent, but no result came in time
  13   ... it EXPIRED: the device did not take it within its time to live
  14   ... it was CANCELED
  130  interrupted by Ctrl-C`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesText}
}

// outcomeExit is the exit code of a command's end.
var outcomeExit = map[operatorv1.CommandState]int{
	operatorv1.CommandState_COMMAND_STATE_SUCCEEDED: exitOK,
	operatorv1.CommandState_COMMAND_STATE_FAILED:    exitFailed,
	operatorv1.CommandState_COMMAND_STATE_REJECTED:  exitRejected,
	operatorv1.CommandState_COMMAND_STATE_TIMED_OUT: exitTimedOut,
	operatorv1.CommandState_COMMAND_STATE_EXPIRED:   exitExpired,
	operatorv1.CommandState_COMMAND_STATE_CANCELED:  exitCanceled,
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitStatus ends the program with a code of its own; without an error it
// says nothing more, because everything has been said.
type exitStatus struct {
	code int
	err  error
}

func (e exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exitStatus) Unwrap() error { return e.err }

// fail says what went wrong and what to do about it, and returns the code.
func (a *app) fail(ctx context.Context, err error) int {
	var status exitStatus
	if errors.As(err, &status) {
		if status.err != nil {
			a.notef("hubctl: %s", status.err)
		}
		return status.code
	}
	if ctx.Err() != nil && interrupted(err) {
		return exitInterrupted
	}
	var usage usageError
	if errors.As(err, &usage) || !a.begun {
		a.notef("hubctl: %s", err)
		a.notef("'%s --help' says how it is used.", a.path)
		return exitUsage
	}
	text, code := a.explain(err)
	a.notef("hubctl: %s", text)
	return code
}

func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled
}
