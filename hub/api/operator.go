package api

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// operatorService implements operatorv1connect.OperatorServiceHandler.
type operatorService struct{ *Server }

var roles = map[operatorv1.Role]registry.Role{
	operatorv1.Role_ROLE_VIEWER:   registry.RoleViewer,
	operatorv1.Role_ROLE_OPERATOR: registry.RoleOperator,
	operatorv1.Role_ROLE_ADMIN:    registry.RoleAdmin,
}

func roleName(role operatorv1.Role) string { return roles[role].String() }

func operatorProto(o *registry.Operator) *operatorv1.Operator {
	out := &operatorv1.Operator{Name: o.Name, Selector: o.Selector.String(), Created: timestamp(o.Created)}
	for theirs, ours := range roles {
		if ours == o.Role {
			out.Role = theirs
		}
	}
	return out
}

func (s *operatorService) CreateOperator(ctx context.Context, req *connect.Request[operatorv1.CreateOperatorRequest]) (*connect.Response[operatorv1.CreateOperatorResponse], error) {
	role, ok := roles[req.Msg.GetRole()]
	if !ok {
		return nil, fmt.Errorf("%w: role must be ROLE_VIEWER, ROLE_OPERATOR or ROLE_ADMIN", errBadRequest)
	}
	selector, err := registry.ParseSelector(req.Msg.GetSelector())
	if err != nil {
		return nil, err
	}
	o, token, err := s.deps.Registry.CreateOperator(ctx, req.Msg.GetName(), role, selector)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.CreateOperatorResponse{Operator: operatorProto(&o), Token: token}), nil
}

func (s *operatorService) ListOperators(context.Context, *connect.Request[operatorv1.ListOperatorsRequest]) (*connect.Response[operatorv1.ListOperatorsResponse], error) {
	res := new(operatorv1.ListOperatorsResponse)
	all := s.deps.Registry.Operators()
	for i := range all {
		res.Operators = append(res.Operators, operatorProto(&all[i]))
	}
	return connect.NewResponse(res), nil
}

func (s *operatorService) DeleteOperator(ctx context.Context, req *connect.Request[operatorv1.DeleteOperatorRequest]) (*connect.Response[operatorv1.DeleteOperatorResponse], error) {
	if err := s.deps.Registry.DeleteOperator(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.DeleteOperatorResponse{}), nil
}

func (s *operatorService) WhoAmI(ctx context.Context, _ *connect.Request[operatorv1.WhoAmIRequest]) (*connect.Response[operatorv1.WhoAmIResponse], error) {
	return connect.NewResponse(&operatorv1.WhoAmIResponse{Operator: operatorProto(&callOf(ctx).operator)}), nil
}

func (s *operatorService) ListAudit(ctx context.Context, req *connect.Request[operatorv1.ListAuditRequest]) (*connect.Response[operatorv1.ListAuditResponse], error) {
	size, err := pageSize(req.Msg.GetPageSize(), defaultPage, registry.MaxAuditPage)
	if err != nil {
		return nil, err
	}
	q := newQuestion(ctx, "audit")
	page, err := q.number(req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	records, next, err := s.deps.Registry.ListAudit(ctx, size, page)
	if err != nil {
		return nil, err
	}
	res := &operatorv1.ListAuditResponse{NextPageToken: q.numberToken(next)}
	for i := range records {
		r := &records[i]
		res.Records = append(res.Records, &operatorv1.AuditRecord{
			Time: timestamp(r.Time), Operator: r.Operator, Method: r.Method, Subject: r.Subject,
			Outcome: r.Outcome, RemoteAddr: r.RemoteAddr, Detail: r.Detail, Reason: r.Reason,
		})
	}
	return connect.NewResponse(res), nil
}
