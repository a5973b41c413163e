package api

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (s *commandService) SendGroupCommand(ctx context.Context, req *connect.Request[operatorv1.SendGroupCommandRequest]) (*connect.Response[operatorv1.SendGroupCommandResponse], error) {
	m := req.Msg
	if m.GetSelector() == "" {
		return nil, fmt.Errorf("%w: a group command needs a selector, as site=north", errBadRequest)
	}
	narrowed, err := selectorIn(ctx, m.GetSelector())
	if err != nil {
		return nil, err
	}
	spec, err := commandSpec(m.GetSpec())
	if err != nil {
		return nil, err
	}
	id, err := idOfKey(ctx, m.GetKey())
	if err != nil {
		return nil, err
	}
	r := commands.GroupRequest{
		Selector: m.GetSelector(), Spec: spec, Key: id, Operator: callOf(ctx).operator.Name, OperatorID: callOf(ctx).operator.ID(),
		Rate: m.GetRatePerSecond(), StopAfterFailureShare: m.GetStopAfterFailureShare(), MaxDevices: int(m.GetMaxDevices()),
		Allow: s.matching(narrowed),
	}
	if err := s.awaitMended(ctx); err != nil {
		return nil, err
	}
	g, existed, err := s.deps.Commands.SendGroup(ctx, r)
	if errors.Is(err, commands.ErrConflict) || err == nil && existed && !ownGroup(ctx, &g) {
		return nil, s.groupConflict(ctx, m.GetKey(), id)
	}
	if err != nil {
		return nil, err
	}
	callOf(ctx).note(acceptedGroupDetail(&g, existed))
	return connect.NewResponse(&operatorv1.SendGroupCommandResponse{Group: s.groupProto(ctx, &g), Existed: existed}), nil
}

// acceptedGroupDetail is acceptedDetail for a group command.
func acceptedGroupDetail(g *commands.Group, existed bool) string {
	return fmt.Sprintf("command=%s group=%s devices=%d existed=%t", g.Spec.Name, g.ID, g.Total, existed)
}

func (s *commandService) GetGroup(ctx context.Context, req *connect.Request[operatorv1.GetGroupRequest]) (*connect.Response[operatorv1.GetGroupResponse], error) {
	g, err := s.visibleGroup(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.GetGroupResponse{Group: s.groupProto(ctx, &g)}), nil
}

// visibleGroup is a group that the caller may see, by the key that the caller
// gave it, or by its id: an operator who is bound
// to a selector sees those of his own, because the counts of another's would
// tell of devices that do not exist for him.
func (s *commandService) visibleGroup(ctx context.Context, id string) (commands.Group, error) {
	for _, candidate := range idsOf(ctx, id) {
		g, err := s.deps.Commands.GetGroup(ctx, candidate)
		switch {
		case err == nil && ownGroup(ctx, &g):
			return g, nil
		case err != nil && !errors.Is(err, commands.ErrNotFound):
			return commands.Group{}, err
		}
	}
	return commands.Group{}, noGroup(id) // the same words for none and for another's
}

// groupID is the id of a group that the caller names by that or by its own
// key; what names none, and "", stays as it is.
func (s *commandService) groupID(ctx context.Context, id string) (string, error) {
	if id == "" || scope(ctx).Empty() {
		return id, nil
	}
	g, err := s.visibleGroup(ctx, id)
	if errors.Is(err, commands.ErrNotFound) {
		return id, nil
	}
	return g.ID, err
}

// groupProto is a group as the caller is shown it.
func (s *commandService) groupProto(ctx context.Context, g *commands.Group) *operatorv1.Group {
	return groupProto(g, func(device string) bool { return s.sees(ctx, device) })
}

// ownGroup reports whether the caller may see a group: not that of an operator
// of the same name who has been removed.
func ownGroup(ctx context.Context, g *commands.Group) bool {
	o := &callOf(ctx).operator
	if g.OperatorID == "" { // of a hub that did not record it
		return o.Unbound() || g.Operator == o.Name && g.Created.After(o.Created)
	}
	return o.Unbound() || g.Operator == o.Name && g.OperatorID == o.ID()
}

func (s *commandService) ListGroups(ctx context.Context, req *connect.Request[operatorv1.ListGroupsRequest]) (*connect.Response[operatorv1.ListGroupsResponse], error) {
	m := req.Msg
	size, err := pageSize(m.GetPageSize(), commands.DefaultPageSize, commands.MaxPageSize)
	if err != nil {
		return nil, err
	}
	q := newQuestion(ctx, "groups")
	place, err := q.place(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	match := func(g *commands.Group) bool { return ownGroup(ctx, g) }
	list, next, err := s.deps.Commands.ListGroups(ctx, match, commands.Page{Size: size, Token: place})
	if err != nil {
		return nil, err
	}
	res := &operatorv1.ListGroupsResponse{NextPageToken: q.token(next)}
	for i := range list {
		res.Groups = append(res.Groups, s.groupProto(ctx, &list[i]))
	}
	return connect.NewResponse(res), nil
}

func (s *commandService) CancelGroup(ctx context.Context, req *connect.Request[operatorv1.CancelGroupRequest]) (*connect.Response[operatorv1.CancelGroupResponse], error) {
	g, err := s.visibleGroup(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	g, err = s.deps.Commands.CancelGroup(ctx, g.ID, callOf(ctx).operator.Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.CancelGroupResponse{Group: s.groupProto(ctx, &g)}), nil
}
