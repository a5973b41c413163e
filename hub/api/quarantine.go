package api

import (
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/jsbuffer"
)

// quarantineService implements operatorv1connect.QuarantineServiceHandler.
// Rows of devices that the caller may not see do not exist.
type quarantineService struct{ *Server }

// maxSelectedRows bounds the ids of one replay or drop.
const maxSelectedRows = 1000

func (s *quarantineService) ListQuarantine(ctx context.Context, req *connect.Request[operatorv1.ListQuarantineRequest]) (*connect.Response[operatorv1.ListQuarantineResponse], error) {
	m := req.Msg
	size, err := pageSize(m.GetPageSize(), defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	q := newQuestion(ctx, "quarantine", m.GetDeviceId())
	after, err := q.number(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	counts, err := s.deps.Quarantine.Count(ctx)
	if err != nil {
		return nil, err
	}
	devices, total := s.inScope(ctx, counts)
	if id := m.GetDeviceId(); id != "" {
		if err := s.mayReach(ctx, id); err != nil {
			return nil, err
		}
		devices = []string{id}
	}
	rows, err := s.rowsAfter(ctx, devices, after, size+1)
	if err != nil {
		return nil, err
	}
	res := &operatorv1.ListQuarantineResponse{Total: total}
	if len(rows) > size {
		rows = rows[:size]
		res.NextPageToken = q.numberToken(rows[size-1].ID)
	}
	for i := range rows {
		res.Rows = append(res.Rows, quarantinedProto(&rows[i]))
	}
	return connect.NewResponse(res), nil
}

// inScope is the devices with rows in quarantine that the caller may see, ""
// alone standing for all devices, and how many rows those have.
func (s *quarantineService) inScope(ctx context.Context, counts jsbuffer.Counts) (devices []string, total uint64) {
	if scope(ctx).Empty() {
		return []string{""}, counts.Rows
	}
	for id, n := range counts.ByDevice {
		if s.sees(ctx, id) {
			devices = append(devices, id)
			total += n
		}
	}
	return devices, total
}

// mayReach checks a device that a request names.
func (s *quarantineService) mayReach(ctx context.Context, id string) error {
	if id != jsbuffer.Undecodable {
		if err := device.CheckID(id); err != nil {
			return err
		}
	}
	if !s.sees(ctx, id) {
		return noDevice(id)
	}
	return nil
}

// rowsAfter merges the rows of the devices in the order of their ids; the
// device "" stands for all.
func (s *quarantineService) rowsAfter(ctx context.Context, devices []string, after uint64, limit int) ([]jsbuffer.Quarantined, error) {
	if len(devices) == 1 {
		return s.listed(ctx, devices[0], after, limit)
	}
	var rows []jsbuffer.Quarantined
	for _, id := range devices {
		more, err := s.listed(ctx, id, after, limit)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		if len(rows) > 4*limit {
			rows = firstRows(rows, limit)
		}
	}
	return firstRows(rows, limit), nil
}

func firstRows(rows []jsbuffer.Quarantined, limit int) []jsbuffer.Quarantined {
	slices.SortFunc(rows, func(a, b jsbuffer.Quarantined) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	return rows[:min(len(rows), limit)]
}

// listed is List without its bound on the limit.
func (s *quarantineService) listed(ctx context.Context, id string, after uint64, limit int) ([]jsbuffer.Quarantined, error) {
	var rows []jsbuffer.Quarantined
	for len(rows) < limit {
		ask := min(limit-len(rows), jsbuffer.MaxListed)
		more, err := s.deps.Quarantine.List(ctx, id, after, ask)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		if len(more) < ask {
			break
		}
		after = rows[len(rows)-1].ID
	}
	return rows, nil
}

func quarantinedProto(q *jsbuffer.Quarantined) *operatorv1.QuarantinedRow {
	row := &operatorv1.QuarantinedRow{
		Id: q.ID, DeviceId: q.Device, Reason: q.Reason, Quarantined: timestamp(q.Since),
	}
	if q.Row != nil {
		row.Measurement = q.Row.Measurement
		row.Time = timestamp(unixNano(q.Row.Time))
		row.Values = valuesProto(q.Row.Fields)
	}
	return row
}

func (s *quarantineService) GetQuarantined(ctx context.Context, req *connect.Request[operatorv1.GetQuarantinedRequest]) (*connect.Response[operatorv1.GetQuarantinedResponse], error) {
	row, err := s.deps.Quarantine.Get(ctx, req.Msg.GetId())
	if err == nil && !s.sees(ctx, row.Device) {
		err = fmt.Errorf("row %d: %w", req.Msg.GetId(), jsbuffer.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.GetQuarantinedResponse{Row: quarantinedProto(&row)}), nil
}

func (s *quarantineService) ReplayQuarantine(ctx context.Context, req *connect.Request[operatorv1.ReplayQuarantineRequest]) (*connect.Response[operatorv1.ReplayQuarantineResponse], error) {
	n, err := s.eachSelection(ctx, req.Msg, "replayed", func(one jsbuffer.Selection) (uint64, error) {
		return s.deps.Quarantine.Replay(ctx, one, s.deps.Buffer)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.ReplayQuarantineResponse{Replayed: n}), nil
}

func (s *quarantineService) DropQuarantine(ctx context.Context, req *connect.Request[operatorv1.DropQuarantineRequest]) (*connect.Response[operatorv1.DropQuarantineResponse], error) {
	n, err := s.eachSelection(ctx, req.Msg, "dropped", func(one jsbuffer.Selection) (uint64, error) {
		return s.deps.Quarantine.Drop(ctx, one)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.DropQuarantineResponse{Dropped: n}), nil
}

// rowChoice is how requests choose rows.
type rowChoice interface {
	GetIds() []uint64
	GetDeviceId() string
	GetAll() bool
}

// eachSelection calls f with what the request chooses of the rows that the
// caller may see, and adds up. How many is in the audit record also when an
// error ends it half-way.
func (s *quarantineService) eachSelection(ctx context.Context, asked rowChoice, done string, f func(jsbuffer.Selection) (uint64, error)) (total uint64, err error) {
	defer func() { callOf(ctx).note(fmt.Sprintf("%s=%d", done, total)) }()
	selections, err := s.selections(ctx, asked)
	if err != nil {
		return 0, err
	}
	for _, one := range selections {
		n, err := f(one)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (s *quarantineService) selections(ctx context.Context, asked rowChoice) ([]jsbuffer.Selection, error) {
	ids, deviceID, all := asked.GetIds(), asked.GetDeviceId(), asked.GetAll()
	chosen := 0
	for _, is := range []bool{len(ids) > 0, deviceID != "", all} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return nil, jsbuffer.ErrBadSelection
	case len(ids) > maxSelectedRows:
		return nil, fmt.Errorf("%w: at most %d rows by id, not %d", errBadRequest, maxSelectedRows, len(ids))
	case deviceID != "":
		if err := s.mayReach(ctx, deviceID); err != nil {
			return nil, err
		}
		return []jsbuffer.Selection{{Device: deviceID}}, nil
	case scope(ctx).Empty():
		return []jsbuffer.Selection{{IDs: ids, All: all}}, nil
	case all:
		return s.allInScope(ctx)
	}
	return s.idsInScope(ctx, ids)
}

func (s *quarantineService) allInScope(ctx context.Context) ([]jsbuffer.Selection, error) {
	counts, err := s.deps.Quarantine.Count(ctx)
	if err != nil {
		return nil, err
	}
	devices, _ := s.inScope(ctx, counts)
	selections := make([]jsbuffer.Selection, len(devices))
	for i, id := range devices {
		selections[i] = jsbuffer.Selection{Device: id}
	}
	return selections, nil
}

// idsInScope leaves out the rows that the caller may not see, as rows that
// are not there are left out.
func (s *quarantineService) idsInScope(ctx context.Context, ids []uint64) ([]jsbuffer.Selection, error) {
	var kept []uint64
	for _, id := range ids {
		row, err := s.deps.Quarantine.Get(ctx, id)
		if err != nil {
			if codeOf(err) == connect.CodeNotFound {
				continue
			}
			return nil, err
		}
		if s.sees(ctx, row.Device) {
			kept = append(kept, id)
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	return []jsbuffer.Selection{{IDs: kept}}, nil
}
