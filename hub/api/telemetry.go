package api

import (
	"context"
	"fmt"
	"time"
	_ "time/tzdata" // zones by name, also where the system has none

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// telemetryService implements operatorv1connect.TelemetryServiceHandler.
// Watching rows is in watchrows.go.
type telemetryService struct{ *Server }

func (s *telemetryService) Latest(ctx context.Context, req *connect.Request[operatorv1.LatestRequest]) (*connect.Response[operatorv1.LatestResponse], error) {
	d, err := s.readable(ctx, req.Msg.GetDeviceId())
	if err != nil {
		return nil, err
	}
	latest, err := s.deps.Reader.Latest(ctx, req.Msg.GetDeviceId(), req.Msg.GetMeasurement())
	if err != nil {
		return nil, err
	}
	if err := unknown(d, req.Msg.GetDeviceId(), len(latest)); err != nil {
		return nil, err
	}
	described := unitsOf(d)
	res := new(operatorv1.LatestResponse)
	for _, l := range latest {
		res.Items = append(res.Items, &operatorv1.LatestResponse_Item{
			Measurement: l.Measurement, Field: l.Field.Name, Value: valueProto(l.Field.Value),
			Time: timestamppb.New(l.Time), Unit: described.of(l.Measurement, l.Field.Name),
		})
	}
	return connect.NewResponse(res), nil
}

// unknown is NOT_FOUND for a device that is in the registry no more, or never
// was, and has left nothing behind.
func unknown(d *registry.Device, id string, found int) error {
	if d == nil && found == 0 {
		return noDevice(id)
	}
	return nil
}

func (s *telemetryService) ListFields(ctx context.Context, req *connect.Request[operatorv1.ListFieldsRequest]) (*connect.Response[operatorv1.ListFieldsResponse], error) {
	d, err := s.readable(ctx, req.Msg.GetDeviceId())
	if err != nil {
		return nil, err
	}
	fields, err := s.deps.Reader.Fields(ctx, req.Msg.GetDeviceId())
	if err != nil {
		return nil, err
	}
	if err := unknown(d, req.Msg.GetDeviceId(), len(fields)); err != nil {
		return nil, err
	}
	described := unitsOf(d)
	res := new(operatorv1.ListFieldsResponse)
	for _, f := range fields {
		res.Fields = append(res.Fields, &operatorv1.ListFieldsResponse_Field{
			Measurement: f.Measurement, Name: f.Name, Kind: kindProto(f.Kind), Unit: described.of(f.Measurement, f.Name),
		})
	}
	return connect.NewResponse(res), nil
}

func (s *telemetryService) Count(ctx context.Context, req *connect.Request[operatorv1.CountRequest]) (*connect.Response[operatorv1.CountResponse], error) {
	m := req.Msg
	if _, err := s.readable(ctx, m.GetDeviceId()); err != nil {
		return nil, err
	}
	from, to, err := timeRange(m.GetFrom(), m.GetTo())
	if err != nil {
		return nil, err
	}
	rows, err := s.deps.Reader.Count(ctx, m.GetDeviceId(), m.GetMeasurement(), from, to)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&operatorv1.CountResponse{Rows: uint64(max(rows, 0))}), nil
}

func (s *telemetryService) Query(ctx context.Context, req *connect.Request[operatorv1.QueryRequest]) (*connect.Response[operatorv1.QueryResponse], error) {
	m := req.Msg
	if _, err := s.readable(ctx, m.GetDeviceId()); err != nil {
		return nil, err
	}
	q, err := queryOf(m)
	if err != nil {
		return nil, err
	}
	asked := newQuestion(ctx, "rows", q.Device, q.Measurement, q.Fields, m.GetFrom().AsTime(), m.GetFrom() != nil,
		m.GetTo().AsTime(), m.GetTo() != nil, q.Aggregate, q.Window, q.Location)
	if q.Page, err = asked.place(m.GetPageToken()); err != nil {
		return nil, err
	}
	page, err := s.deps.Reader.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	res := &operatorv1.QueryResponse{
		Rows: make([]*operatorv1.QueryResponse_Row, len(page.Rows)), NextPageToken: asked.token(page.NextPage),
	}
	for i, row := range page.Rows {
		res.Rows[i] = &operatorv1.QueryResponse_Row{Time: timestamppb.New(row.Time), Values: valuesProto(row.Fields)}
	}
	return connect.NewResponse(res), nil
}

// queryOf checks what the Reader cannot know, and leaves the rest to it.
func queryOf(m *operatorv1.QueryRequest) (telemetry.Query, error) {
	size, err := pageSize(m.GetPageSize(), telemetry.DefaultPageRows, telemetry.MaxPageRows)
	if err != nil {
		return telemetry.Query{}, err
	}
	from, to, err := timeRange(m.GetFrom(), m.GetTo())
	if err != nil {
		return telemetry.Query{}, err
	}
	aggregate, ok := aggregates[m.GetAggregate()]
	if !ok {
		return telemetry.Query{}, fmt.Errorf("%w: unknown aggregate %d", errBadRequest, m.GetAggregate())
	}
	var window time.Duration
	if m.GetWindow() != nil {
		if err := m.GetWindow().CheckValid(); err != nil || m.GetWindow().AsDuration() <= 0 {
			return telemetry.Query{}, fmt.Errorf("%w: window must be a duration from %v", errBadRequest, telemetry.MinWindow)
		}
		window = m.GetWindow().AsDuration()
	}
	zone, err := location(m.GetTimeZone())
	if err != nil {
		return telemetry.Query{}, err
	}
	return telemetry.Query{
		Device: m.GetDeviceId(), Measurement: m.GetMeasurement(), Fields: m.GetFields(), From: from, To: to,
		Aggregate: aggregate, Window: window, Location: zone, Limit: size,
	}, nil
}

var aggregates = map[operatorv1.Aggregate]telemetry.Aggregate{
	operatorv1.Aggregate_AGGREGATE_UNSPECIFIED: telemetry.Raw,
	operatorv1.Aggregate_AGGREGATE_MEAN:        telemetry.Mean,
	operatorv1.Aggregate_AGGREGATE_MIN:         telemetry.Min,
	operatorv1.Aggregate_AGGREGATE_MAX:         telemetry.Max,
	operatorv1.Aggregate_AGGREGATE_SUM:         telemetry.Sum,
	operatorv1.Aggregate_AGGREGATE_COUNT:       telemetry.Count,
	operatorv1.Aggregate_AGGREGATE_FIRST:       telemetry.First,
	operatorv1.Aggregate_AGGREGATE_LAST:        telemetry.Last,
}

// timeRange is the zero time for an open end.
func timeRange(from, to *timestamppb.Timestamp) (f, t time.Time, err error) {
	if f, err = timeOf("from", from); err != nil {
		return f, t, err
	}
	t, err = timeOf("to", to)
	return f, t, err
}

func timeOf(name string, ts *timestamppb.Timestamp) (time.Time, error) {
	if ts == nil {
		return time.Time{}, nil
	}
	if err := ts.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%w: %s is no time", errBadRequest, name)
	}
	t := ts.AsTime()
	if t.IsZero() { // year 1: before everything, but not an open end
		t = t.Add(1)
	}
	return t, nil
}

// location of an IANA name. "Local" would be the hub's own.
func location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("%w: %.64q is no time zone; use an IANA name such as Europe/Berlin", errBadRequest, name)
	}
	return zone, nil
}
