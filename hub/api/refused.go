package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const (
	// maxRefused is the most refusals of one answer.
	maxRefused = 20
	// maxRefusedLooked bounds the audit records that are looked at for one
	// answer, and maxRefusedSearches the answers that are looked for at once.
	maxRefusedLooked   = 10_000
	maxRefusedSearches = 2
)

// ListRefusedCommands finds in the audit log what a command that was refused
// has left behind.
func (s *commandService) ListRefusedCommands(ctx context.Context, req *connect.Request[operatorv1.ListRefusedCommandsRequest]) (*connect.Response[operatorv1.ListRefusedCommandsResponse], error) {
	key := req.Msg.GetKey()
	if key == "" {
		return nil, fmt.Errorf("%w: key is missing", errBadRequest)
	}
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	res := new(operatorv1.ListRefusedCommandsResponse)
	var oldest time.Time
	for page, looked := uint64(0), 0; ; looked += registry.MaxAuditPage {
		if looked >= maxRefusedLooked {
			res.SearchedSince = timestamp(oldest)
			break
		}
		records, next, err := s.deps.Registry.ListAudit(ctx, registry.MaxAuditPage, page)
		if err != nil {
			return nil, err
		}
		for i := range records {
			rec := &records[i]
			oldest = rec.Time
			if one := refusedCommand(ctx, rec, key); one != nil {
				res.Refused = append(res.Refused, one)
			}
			if len(res.Refused) == maxRefused {
				res.SearchedSince = timestamp(oldest)
				return connect.NewResponse(res), nil
			}
		}
		if page = next; page == 0 {
			break
		}
	}
	return connect.NewResponse(res), nil
}

// refusedCommand is what a record tells of a command that was refused under a
// key; nil: nothing, or nothing that the caller may know.
func refusedCommand(ctx context.Context, rec *registry.Record, key string) *operatorv1.RefusedCommand {
	group := rec.Method == sendGroupMethod
	if rec.Outcome == "ok" || !group && rec.Method != sendCommandMethod {
		return nil
	}
	name, ok := askedName(rec.Detail, key)
	if !ok || !ownRecord(ctx, rec) {
		return nil
	}
	one := &operatorv1.RefusedCommand{Time: timestamp(rec.Time), Operator: rec.Operator, Name: name, Code: rec.Outcome, Reason: rec.Reason}
	if group {
		one.Selector = rec.Subject
	} else {
		one.DeviceId = rec.Subject
	}
	return one
}

// ownRecord reports whether the caller may see a record: one who is bound to a
// selector only its own, not those of a removed operator of the same name.
func ownRecord(ctx context.Context, rec *registry.Record) bool {
	o := &callOf(ctx).operator
	if rec.OperatorID == "" { // of a hub that did not record it
		return o.Unbound() || rec.Operator == o.Name && rec.Time.After(o.Created)
	}
	return o.Unbound() || rec.Operator == o.Name && rec.OperatorID == o.ID()
}
