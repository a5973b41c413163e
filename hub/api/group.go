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
	r := commands.GroupRequest{
		Selector: m.GetSelector(), Spec: spec, Key: m.GetKey(), Operator: callOf(ctx).operator.Name,
		Rate: m.GetRatePerSecond(), StopAfterFailureShare: m.GetStopAfterFailureShare(), MaxDevices: int(m.GetMaxDevices()),
		Allow: s.matching(narrowed),
	}
	g, existed, err := s.deps.Commands.SendGroup(ctx, r)
	if err == nil && existed && !ownGroup(ctx, &g) {
		err = fmt.Errorf("key %s: %w", m.GetKey(), commands.ErrConflict)
	}
	if err != nil {
		return nil, err
	}
	callOf(ctx).note(acceptedGroupDetail(&g, existed))
	return connect.NewResponse(&operatorv1.SendGroupCommandResponse{Group: groupProto(&g), Existed: existed}), nil
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
	return connect.NewResponse(&operatorv1.GetGroupResponse{Group: groupProto(&g)}), nil
}

// visibleGroup is a group that the caller may see: an operator who is bound
// to a selector sees those of his own, because the counts of another's would
// tell of devices that do not exist for him.
func (s *commandService) visibleGroup(ctx context.Context, id string) (commands.Group, error) {
	g, err := s.deps.Commands.GetGroup(ctx, id)
	if errors.Is(err, commands.ErrNotFound) || err == nil && !ownGroup(ctx, &g) {
		err = noGroup(id) // the same words for both
	}
	if err != nil {
		return commands.Group{}, err
	}
	return g, nil
}

func ownGroup(ctx context.Context, g *commands.Group) bool {
	return scope(ctx).Empty() || g.Operator == callOf(ctx).operator.Name
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
		res.Groups = append(res.Groups, groupProto(&list[i]))
	}
	return connect.NewResponse(res), nil
}

func (s *commandService) CancelGroup(ctx context.Context, req *connect.Request[operatorv1.CancelGroupRequest]) (*connect.Response[operatorv1.CancelGroupResponse], error) {
	id := req.Msg.GetId()
	if _, err := s.visibleGroup(ctx, id); err != nil {
		return nil, err
	}
	g, err := s.deps.Commands.CancelGroup(ctx, id, callOf(ctx).operator.Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.CancelGroupResponse{Group: groupProto(&g)}), nil
}
