package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Handler obeys commands of one name. A command id is run at most once: it is
// in the journal before Run is called.
type Handler struct {
	// Run obeys one command. Its ctx ends when the command is canceled or
	// times out, or when the client ends. A returned error makes the command
	// FAILED (UNKNOWN, or the code of a *CommandError), REJECTED (an
	// *ArgumentError, or Reject) or CANCELED (any error, after the hub has
	// asked for it). A panic makes it FAILED (INTERNAL).
	Run func(ctx context.Context, cmd *Command) (Result, error)
	// Concurrent lets it run beside other commands. Without it commands run
	// one at a time, in the order in which they arrive.
	Concurrent bool
	// CompleteOnRestart says that the end of this process is what the command
	// is for: a reboot, an update. A command that was running when the
	// process ended has SUCCEEDED.
	CompleteOnRestart bool
}

// Limits of commands.
const (
	MaxPayloadBytes = 16 << 10 // of a command and of a result
	maxMessageBytes = 1 << 10
	maxCommandID    = 64
	maxQueued       = 64 // commands waiting and running
)

// Command is one command that runs.
type Command struct {
	ID       string
	Name     string
	Attempt  uint32 // from 1
	payload  *devicev1.Command
	args     map[string]json.RawMessage
	progress func(percent int, message string)
}

// Progress tells the hub how far the command has come, 0 to 100 percent.
// Calls in quick succession are thinned out. Any goroutine may call it while
// the handler runs.
func (c *Command) Progress(percent int, message string) { c.progress(percent, message) }

// Protobuf is the payload where it is not JSON; nil: it is JSON or empty.
func (c *Command) Protobuf() []byte { return c.payload.GetProtobuf() }

// JSON is the payload where it is JSON; "": it is not, or empty.
func (c *Command) JSON() string { return c.payload.GetJson() }

// Result is what a command has brought. The zero Result is empty.
type Result struct {
	json     string
	protobuf []byte
	message  string
}

// JSONResult is v as JSON, to MaxPayloadBytes.
func JSONResult(v any) (Result, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Result{}, fmt.Errorf("encode result: %w", err)
	}
	return Result{json: string(data)}, nil
}

// ProtobufResult is m encoded, to MaxPayloadBytes.
func ProtobufResult(m proto.Message) (Result, error) {
	data, err := proto.Marshal(m)
	if err != nil {
		return Result{}, fmt.Errorf("encode result: %w", err)
	}
	return Result{protobuf: data}, nil
}

// WithMessage adds words for people, to 1 KiB.
func (r Result) WithMessage(text string) Result {
	r.message = text
	return r
}

// Code says why a command failed, as google.rpc.Code.
type Code uint32

// The codes that the client itself gives.
const (
	CodeCanceled          Code = 1
	CodeUnknown           Code = 2
	CodeInvalidArgument   Code = 3
	CodeDeadlineExceeded  Code = 4
	CodeNotFound          Code = 5
	CodeResourceExhausted Code = 8
	CodeFailed            Code = 9 // FAILED_PRECONDITION
	CodeAborted           Code = 10
	CodeUnimplemented     Code = 12
	CodeInternal          Code = 13
	CodeUnavailable       Code = 14

	maxCode = 16
)

// CommandError is an error of a handler with a code.
type CommandError struct {
	Code     Code // 1 to 16
	Message  string
	Rejected bool // nothing was done
}

func (e *CommandError) Error() string { return e.Message }

// Fail is an error with a code: the command FAILED.
func Fail(code Code, message string) error { return &CommandError{Code: code, Message: message} }

// Reject is an error with a code: nothing was done, the command is REJECTED.
func Reject(code Code, message string) error {
	return &CommandError{Code: code, Message: message, Rejected: true}
}

// Why a handler's ctx has ended, as context.Cause tells it.
var (
	// ErrCommandCanceled: the hub has asked for it.
	ErrCommandCanceled = errors.New("command canceled")
	// ErrShutdown: the client ends.
	ErrShutdown = errors.New("device is going down")
)

// ending is the update that tells of a handler's return.
func ending(ctx context.Context, cmd *devicev1.Command, h Handler, r Result, err error) *devicev1.CommandUpdate {
	u := &devicev1.CommandUpdate{Id: cmd.Id, Message: r.message}
	cause := context.Cause(ctx)
	var failed *CommandError
	var argument *ArgumentError
	switch {
	case err == nil:
		u.Phase = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
		r.put(u)
	case errors.Is(cause, ErrShutdown) && h.CompleteOnRestart:
		u.Phase = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
		u.Message = "the restart is under way"
	case errors.Is(cause, ErrCommandCanceled):
		u.Phase = devicev1.CommandPhase_COMMAND_PHASE_CANCELED
		u.Message = err.Error()
	case errors.As(err, &argument):
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_REJECTED, CodeInvalidArgument, err.Error())
	case errors.As(err, &failed):
		phase := devicev1.CommandPhase_COMMAND_PHASE_FAILED
		if failed.Rejected {
			phase = devicev1.CommandPhase_COMMAND_PHASE_REJECTED
		}
		finish(u, phase, failed.Code, failed.Message)
	case errors.Is(cause, ErrShutdown):
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_FAILED, CodeAborted, "stopped: "+ErrShutdown.Error())
	case errors.Is(err, context.DeadlineExceeded):
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_FAILED, CodeDeadlineExceeded, err.Error())
	default:
		finish(u, devicev1.CommandPhase_COMMAND_PHASE_FAILED, CodeUnknown, err.Error())
	}
	u.Message = shorten(u.Message)
	return u
}

func finish(u *devicev1.CommandUpdate, phase devicev1.CommandPhase, code Code, message string) {
	if code == 0 || code > maxCode {
		code = CodeUnknown
	}
	u.Phase, u.Code, u.Message = phase, uint32(code), shorten(message)
}

// put adds the payload. One that is too large is left out: the command has
// succeeded all the same.
func (r Result) put(u *devicev1.CommandUpdate) {
	if n := len(r.json) + len(r.protobuf); n > MaxPayloadBytes {
		u.Message = fmt.Sprintf("result left out: %d bytes, at most %d; %s", n, MaxPayloadBytes, r.message)
		return
	}
	switch {
	case r.json != "":
		u.Result = &devicev1.CommandUpdate_Json{Json: r.json}
	case r.protobuf != nil:
		u.Result = &devicev1.CommandUpdate_Protobuf{Protobuf: r.protobuf}
	}
}

// shorten makes text valid for a message.
func shorten(text string) string {
	if len(text) > maxMessageBytes {
		text = text[:maxMessageBytes]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		text = text[:len(text)-1]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
