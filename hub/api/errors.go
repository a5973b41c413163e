package api

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/mqttbridge"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// Errors of the handlers.
var (
	errOutOfScope   = errors.New("the device does not match the selector that this operator is bound to, or would not any more")
	errNoRole       = errors.New("this operator's role or selector does not permit that")
	errBadPage      = errors.New("the page token is not one of this list: begin again without it")
	errBadRequest   = errors.New("bad request")
	errNoBroker     = errors.New("the config of the bridge has no broker")
	errBridged      = errors.New("a device behind the MQTT bridge has no credential")
	errFeedEnded    = errors.New("the stream of rows broke off; watch again")
	errTooManyFeeds = errors.New("too many watchers on this node; try again later")
	errNotAudited   = errors.New("the change was made, but the audit log could not be written")
)

// errorTable says which code an error becomes. Where said is set, the error's
// own text goes to the caller: it was written for that; else the text is that
// of the code alone, because it may tell of the hub's inside. The first match
// counts. What matches nothing is internal.
var errorTable = []struct {
	err  error
	code connect.Code
	said bool
}{
	{errNoToken, connect.CodeUnauthenticated, true},
	{errWrongToken, connect.CodeUnauthenticated, true},
	{errRevoked, connect.CodeUnauthenticated, true},
	{errTooManyWrong, connect.CodeResourceExhausted, true},
	{errTooManyCalls, connect.CodeResourceExhausted, true},
	{errTooManyWaiting, connect.CodeResourceExhausted, true},
	{errTooManyFeeds, connect.CodeResourceExhausted, true},
	{errShuttingDown, connect.CodeUnavailable, true},
	{errFeedEnded, connect.CodeUnavailable, true},
	{errNotAudited, connect.CodeUnavailable, true},
	{errNoRole, connect.CodePermissionDenied, true},
	{errOutOfScope, connect.CodePermissionDenied, true},
	{errBadPage, connect.CodeInvalidArgument, true},
	{errBadRequest, connect.CodeInvalidArgument, true},
	{errBridged, connect.CodeFailedPrecondition, true},
	{errNoBroker, connect.CodeNotFound, true},
	{mqttbridge.ErrNoBridge, connect.CodeFailedPrecondition, true},
	{mqttbridge.ErrUnknownGear, connect.CodeNotFound, true},
	{mqttbridge.ErrBadSample, connect.CodeInvalidArgument, true},
	{mqttbridge.ErrUnreachable, connect.CodeFailedPrecondition, true},
	{mqttbridge.ErrTooManySamples, connect.CodeResourceExhausted, true},

	{registry.ErrInvalid, connect.CodeInvalidArgument, true},
	{registry.ErrNotFound, connect.CodeNotFound, true},
	{registry.ErrExists, connect.CodeAlreadyExists, true},
	{registry.ErrConflict, connect.CodeAborted, true},
	{registry.ErrLastAdmin, connect.CodeFailedPrecondition, true},
	{registry.ErrClosed, connect.CodeUnavailable, false},
	{device.ErrBadID, connect.CodeInvalidArgument, true},
	{telemetry.ErrBadQuery, connect.CodeInvalidArgument, true},
	{telemetry.ErrBadPageToken, connect.CodeInvalidArgument, true},
	{telemetry.ErrFull, connect.CodeResourceExhausted, true},
	{telemetry.ErrClosed, connect.CodeUnavailable, false},
	{jsbuffer.ErrNotFound, connect.CodeNotFound, true},
	{jsbuffer.ErrBadSelection, connect.CodeInvalidArgument, true},

	{commands.ErrInvalid, connect.CodeInvalidArgument, true},
	{commands.ErrNotFound, connect.CodeNotFound, true},
	{commands.ErrUnknownDevice, connect.CodeNotFound, true},
	{commands.ErrDeviceDisabled, connect.CodeFailedPrecondition, true},
	{commands.ErrTooManyPending, connect.CodeResourceExhausted, true},
	{commands.ErrFull, connect.CodeResourceExhausted, true},
	{commands.ErrConflict, connect.CodeAlreadyExists, true},
	{commands.ErrEnded, connect.CodeFailedPrecondition, true},
	{commands.ErrTooMany, connect.CodeFailedPrecondition, true},
	{commands.ErrBadPageToken, connect.CodeInvalidArgument, true},
	{commands.ErrSlowWatcher, connect.CodeUnavailable, true},
	{commands.ErrClosed, connect.CodeUnavailable, false},
	{commands.ErrUnsettled, connect.CodeUnavailable, false},

	{context.Canceled, connect.CodeCanceled, false},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, false},
	{nats.ErrTimeout, connect.CodeUnavailable, false},
	{nats.ErrNoResponders, connect.CodeUnavailable, false},
	{nats.ErrConnectionClosed, connect.CodeUnavailable, false},
	{jetstream.ErrNoStreamResponse, connect.CodeUnavailable, false},
}

// plainText is what a caller is told of a code whose errors are not said.
var plainText = map[connect.Code]string{
	connect.CodeCanceled:         "the call was canceled",
	connect.CodeDeadlineExceeded: "the call took too long",
	connect.CodeUnavailable:      "the hub cannot do that at the moment; try again",
}

// codeOf is the code of an error.
func codeOf(err error) connect.Code {
	code, _ := classify(err)
	return code
}

func classify(err error) (code connect.Code, said bool) {
	var already *connect.Error
	if errors.As(err, &already) {
		return already.Code(), true
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			return row.code, row.said
		}
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == http.StatusServiceUnavailable { // no leader, for the moment
		return connect.CodeUnavailable, false
	}
	return connect.CodeInternal, false
}

// said is what a caller is told of err; "" for nil, and for what only the
// hub's log tells.
func said(err error) string {
	var already *connect.Error
	if errors.As(err, &already) {
		return already.Message()
	}
	if err == nil {
		return ""
	}
	if code, said := classify(err); !said {
		return plainText[code]
	}
	return err.Error()
}

// answer is the error that a caller gets for err. What it does not tell is
// logged; with an internal error the caller gets a reference to that.
func (s *Server) answer(err error, procedure string) *connect.Error {
	var already *connect.Error
	if errors.As(err, &already) {
		return already
	}
	code, said := classify(err)
	if said {
		return connect.NewError(code, errors.New(err.Error()))
	}
	if text, ok := plainText[code]; ok && code != connect.CodeInternal {
		if code == connect.CodeUnavailable {
			s.log.Warn("operator call failed", "procedure", procedure, "error", err)
		}
		return connect.NewError(code, errors.New(text))
	}
	reference := rand.Text()[:12]
	s.log.Error("operator call failed", "procedure", procedure, "reference", reference, "error", err)
	return connect.NewError(connect.CodeInternal, errors.New("internal error; the hub's log has it under reference "+reference))
}
