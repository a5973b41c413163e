package session

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// update takes the device's word on a command, and tells the device when its
// end is recorded. What cannot be recorded now is not acknowledged: the
// device says it again after its next welcome.
func (s *Session) update(ctx context.Context, body []byte) error {
	u, err := parseUpdate(body)
	if err != nil {
		return err
	}
	if s.deps.Commands == nil || u.GetPhase() > devicev1.CommandPhase_COMMAND_PHASE_CANCELED {
		s.deps.Metrics.Unknown.Add(1)
		return nil
	}
	var final bool
	err = s.call(ctx, func(ctx context.Context) (err error) {
		final, err = s.deps.Commands.Update(ctx, s.id, s.epoch, u)
		return err
	})
	if errors.Is(err, errStopped) {
		return err
	}
	if err != nil {
		s.deps.Logger.Warn("command update could not be recorded",
			"device", s.id, "command", u.GetId(), "phase", u.GetPhase().String(), "error", err)
		return nil
	}
	s.deps.Metrics.Updates.Add(1)
	if final {
		// Those who wait for the end hear of it first; the device waits for
		// nothing.
		runtime.Gosched()
		s.queue(&devicev1.HubFrame{Frame: &devicev1.HubFrame_CommandAck{CommandAck: &devicev1.CommandAck{Id: u.GetId()}}})
	}
	return nil
}

// parseUpdate decodes the device's word. What has no usable id or no phase is
// forbidden. What else is out of bounds is cut by Commands.Update: a device
// repeats an end until it is acknowledged, and one that were refused for its
// size it would repeat for ever.
func parseUpdate(body []byte) (*devicev1.CommandUpdate, error) {
	u := new(devicev1.CommandUpdate)
	if proto.Unmarshal(body, u) != nil {
		u.Reset()
		if err := proto.Unmarshal(mendText(body), u); err != nil {
			return nil, forbidden("malformed CommandUpdate")
		}
	}
	switch {
	case !printable(u.GetId()) || len(u.GetId()) == 0 || len(u.GetId()) > MaxCommandID:
		return nil, forbidden("CommandUpdate: bad id")
	case u.GetPhase() <= devicev1.CommandPhase_COMMAND_PHASE_UNSPECIFIED:
		return nil, forbidden("CommandUpdate: no phase")
	}
	return u, nil
}

// The fields of CommandUpdate that mendText mends.
const (
	updateMessage  protowire.Number = 5
	updateJSON     protowire.Number = 6
	updateProtobuf protowire.Number = 7
)

// mendText is an encoded CommandUpdate whose texts are UTF-8, which a device
// that cuts them at a byte breaks easily: in the message U+FFFD stands for
// what is not, and a json result that is not becomes bytes.
func mendText(body []byte) []byte {
	out := make([]byte, 0, len(body))
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeField(body)
		if n < 0 {
			return append(out, body...) // no message at all: let it fail
		}
		field := body[:n]
		body = body[n:]
		if typ != protowire.BytesType || num != updateMessage && num != updateJSON {
			out = append(out, field...)
			continue
		}
		_, _, tag := protowire.ConsumeTag(field)
		text, _ := protowire.ConsumeBytes(field[tag:])
		switch {
		case utf8.Valid(text):
			out = append(out, field...)
		case num == updateJSON:
			out = protowire.AppendBytes(protowire.AppendTag(out, updateProtobuf, protowire.BytesType), text)
		default:
			out = protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), bytes.ToValidUTF8(text, []byte("\uFFFD")))
		}
	}
	return out
}

// printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
