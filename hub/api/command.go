package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Commands carries commands to devices. All methods may run at once.
type Commands interface {
	Send(ctx context.Context, r commands.Request) (c commands.Command, existed bool, err error)
	Await(ctx context.Context, id string) (commands.Command, error)
	Get(ctx context.Context, id string) (commands.Command, []commands.Event, error)
	List(ctx context.Context, f commands.Filter, p commands.Page) ([]commands.Command, string, error)
	Cancel(ctx context.Context, id, operator string) (commands.Command, error)
	CancelDevice(ctx context.Context, device, operator string) (int, error)
	Watch(ctx context.Context, f commands.WatchFilter, fn func(commands.Command) error) error
	SendGroup(ctx context.Context, r commands.GroupRequest) (g commands.Group, existed bool, err error)
	GetGroup(ctx context.Context, id string) (commands.Group, error)
	ListGroups(ctx context.Context, match func(*commands.Group) bool, p commands.Page) ([]commands.Group, string, error)
	CancelGroup(ctx context.Context, id, operator string) (commands.Group, error)
	// Ready is closed when Pending knows.
	Ready() <-chan struct{}
	Pending() int
}

// commandService implements operatorv1connect.CommandServiceHandler.
// Commands to devices that the caller may not see do not exist.
type commandService struct{ *Server }

func noCommand(id string) error { return fmt.Errorf("command %.80q: %w", id, commands.ErrNotFound) }

func noGroup(id string) error { return fmt.Errorf("group %.80q: %w", id, commands.ErrNotFound) }

func (s *commandService) SendCommand(ctx context.Context, req *connect.Request[operatorv1.SendCommandRequest]) (*connect.Response[operatorv1.SendCommandResponse], error) {
	m := req.Msg
	if _, err := s.visible(ctx, m.GetDeviceId()); err != nil {
		return nil, err
	}
	spec, err := commandSpec(m.GetSpec())
	if err != nil {
		return nil, err
	}
	wait, err := sendWait(m.GetWait())
	if err != nil {
		return nil, err
	}
	id, err := idOfKey(ctx, m.GetKey())
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		if err := s.calls.wait(callOf(ctx)); err != nil {
			return nil, err
		}
	}
	sending, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	if err := s.awaitMended(sending); err != nil {
		return nil, err
	}
	c, existed, err := s.deps.Commands.Send(sending, commands.Request{
		Device: m.GetDeviceId(), Spec: spec, Key: id, Operator: callOf(ctx).operator.Name,
	})
	if errors.Is(err, commands.ErrConflict) {
		return nil, s.commandConflict(ctx, m.GetKey(), id)
	}
	if err != nil {
		return nil, err
	}
	callOf(ctx).note(acceptedDetail(&c, existed))
	if !existed {
		s.auditLater(ctx, acceptedDetail(&c, existed))
	}
	if wait > 0 && !c.State.Ended() {
		c = s.awaitEnd(ctx, c, wait)
	}
	return connect.NewResponse(&operatorv1.SendCommandResponse{Command: commandProto(&c), Existed: existed}), nil
}

// maxSendWait bounds how long a SendCommand waits for the end.
const maxSendWait = time.Minute

// sendWait is the time for which a SendCommand waits.
func sendWait(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if wait := d.AsDuration(); d.CheckValid() == nil && wait >= 0 && wait <= maxSendWait {
		return wait, nil
	}
	return 0, fmt.Errorf("%w: wait is 0 to %s; follow a command that takes longer by WatchCommands", commands.ErrInvalid, maxSendWait)
}

// awaitEnd is the command when it has ended, or as it stands when the time is
// over, the caller has gone or is removed, or the hub stops: it was accepted,
// so none of these is an error here.
func (s *commandService) awaitEnd(ctx context.Context, c commands.Command, wait time.Duration) commands.Command {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(callOf(ctx).under, cancel)()
	if now, err := s.deps.Commands.Await(ctx, c.ID); err == nil {
		return now
	}
	return c
}

// acceptedDetail is what the audit log says of a command that was accepted.
func acceptedDetail(c *commands.Command, existed bool) string {
	return fmt.Sprintf("command=%s id=%s existed=%t", c.Spec.Name, c.ID, existed)
}

func (s *commandService) GetCommand(ctx context.Context, req *connect.Request[operatorv1.GetCommandRequest]) (*connect.Response[operatorv1.GetCommandResponse], error) {
	c, events, err := s.visibleCommand(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	res := &operatorv1.GetCommandResponse{Command: commandProto(&c)}
	for i := range events {
		res.Events = append(res.Events, eventProto(&events[i]))
	}
	return connect.NewResponse(res), nil
}

// visibleCommand is a command to a device that the caller may see, by the key
// that the caller gave it, or by its id.
func (s *commandService) visibleCommand(ctx context.Context, id string) (commands.Command, []commands.Event, error) {
	for _, candidate := range idsOf(ctx, id) {
		c, events, err := s.deps.Commands.Get(ctx, candidate)
		switch {
		case err == nil && s.sees(ctx, c.Device):
			return c, events, nil
		case err != nil && !errors.Is(err, commands.ErrNotFound):
			return commands.Command{}, nil, err
		}
	}
	return commands.Command{}, nil, noCommand(id) // the same words for none and for one out of reach
}

func (s *commandService) ListCommands(ctx context.Context, req *connect.Request[operatorv1.ListCommandsRequest]) (*connect.Response[operatorv1.ListCommandsResponse], error) {
	m := req.Msg
	size, err := pageSize(m.GetPageSize(), commands.DefaultPageSize, commands.MaxPageSize)
	if err != nil {
		return nil, err
	}
	states, err := commandStates(m.GetStates())
	if err != nil {
		return nil, err
	}
	match, err := s.commandsOf(ctx, m.GetDeviceId(), m.GetSelector())
	if err != nil {
		return nil, err
	}
	q := newQuestion(ctx, "commands", m.GetDeviceId(), m.GetSelector(), states, m.GetName(), m.GetGroupId())
	place, err := q.place(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	group, err := s.groupID(ctx, m.GetGroupId())
	if err != nil {
		return nil, err
	}
	list, next, err := s.deps.Commands.List(ctx, commands.Filter{
		Device: m.GetDeviceId(), Name: m.GetName(), Group: group, States: states, Match: match,
	}, commands.Page{Size: size, Token: place})
	if err != nil {
		return nil, err
	}
	res := &operatorv1.ListCommandsResponse{NextPageToken: q.token(next)}
	for i := range list {
		res.Commands = append(res.Commands, commandProto(&list[i]))
	}
	return connect.NewResponse(res), nil
}

// commandsOf tells which devices' commands a request is about; nil: all.
func (s *commandService) commandsOf(ctx context.Context, id, selector string) (func(device string) bool, error) {
	if id != "" {
		if _, err := s.readable(ctx, id); err != nil {
			return nil, err
		}
	}
	narrowed, err := selectorIn(ctx, selector)
	if err != nil || narrowed.Empty() {
		return nil, err
	}
	return s.matching(narrowed), nil
}

// matching reports whether a device, which may not exist any more, matches.
func (s *Server) matching(selector registry.Selector) func(device string) bool {
	return func(id string) bool {
		d, ok := s.deps.Registry.Get(id)
		return ok && selector.Match(d.Labels)
	}
}

func (s *commandService) CancelCommand(ctx context.Context, req *connect.Request[operatorv1.CancelCommandRequest]) (*connect.Response[operatorv1.CancelCommandResponse], error) {
	c, _, err := s.visibleCommand(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.unambiguous(ctx, req.Msg.GetId(), c.ID); err != nil {
		return nil, err
	}
	c, err = s.deps.Commands.Cancel(ctx, c.ID, callOf(ctx).operator.Name)
	if err != nil {
		return nil, err
	}
	callOf(ctx).note(fmt.Sprintf("device=%s command=%s", c.Device, c.Spec.Name))
	return connect.NewResponse(&operatorv1.CancelCommandResponse{Command: commandProto(&c)}), nil
}

func (s *commandService) WatchCommands(ctx context.Context, req *connect.Request[operatorv1.WatchCommandsRequest], stream *connect.ServerStream[operatorv1.WatchCommandsResponse]) error {
	m := req.Msg
	match, err := s.commandsOf(ctx, m.GetDeviceId(), m.GetSelector())
	if err != nil {
		return err
	}
	id := m.GetId()
	if id != "" {
		c, _, err := s.visibleCommand(ctx, id)
		if err != nil {
			return err
		}
		id = c.ID
	}
	group, err := s.groupID(ctx, m.GetGroupId())
	if err != nil {
		return err
	}
	// The answer begins at once, though nothing may happen for long.
	if err := stream.Send(nil); err != nil {
		return err
	}
	filter := commands.WatchFilter{ID: id, Device: m.GetDeviceId(), Group: group, Match: match}
	return s.deps.Commands.Watch(ctx, filter, func(c commands.Command) error {
		return stream.Send(&operatorv1.WatchCommandsResponse{Command: commandProto(&c)})
	})
}
