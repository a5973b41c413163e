package session

import (
	"context"
	"errors"
	"runtime"

	"google.golang.org/protobuf/proto"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// update takes the device's word on a command, and tells the device when its
// end is recorded. What cannot be recorded now is not acknowledged: the
// device says it again after its next welcome.
func (s *Session) update(ctx context.Context, body []byte) error {
	u := new(devicev1.CommandUpdate)
	if err := proto.Unmarshal(body, u); err != nil {
		return forbidden("malformed CommandUpdate")
	}
	if err := checkUpdate(u); err != nil {
		return err
	}
	if s.deps.Commands == nil || u.GetPhase() > devicev1.CommandPhase_COMMAND_PHASE_CANCELED {
		s.deps.Metrics.Unknown.Add(1)
		return nil
	}
	var final bool
	err := s.call(ctx, func(ctx context.Context) (err error) {
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

func checkUpdate(u *devicev1.CommandUpdate) error {
	switch {
	case !printable(u.GetId()) || len(u.GetId()) == 0 || len(u.GetId()) > MaxCommandID:
		return forbidden("CommandUpdate: bad id")
	case u.GetPhase() <= devicev1.CommandPhase_COMMAND_PHASE_UNSPECIFIED:
		return forbidden("CommandUpdate: no phase")
	case u.GetProgressPercent() > 100:
		return forbidden("CommandUpdate: progress over 100")
	case u.GetCode() > 16:
		return forbidden("CommandUpdate: code over 16")
	case len(u.GetMessage()) > MaxMessageBytes:
		return forbidden("CommandUpdate: message over 1 KiB")
	case len(u.GetJson()) > MaxPayloadBytes || len(u.GetProtobuf()) > MaxPayloadBytes:
		return forbidden("CommandUpdate: result over 16 KiB")
	}
	return nil
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
