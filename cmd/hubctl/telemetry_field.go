package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type fieldInfo = *operatorv1.ListFieldsResponse_Field

// fields are those of a device; one that is not known is a NOT_FOUND.
func (a *app) fields(ctx context.Context, api *connection.Clients, device string) ([]fieldInfo, error) {
	res, err := call(ctx, a, api.Telemetry.ListFields, &operatorv1.ListFieldsRequest{DeviceId: device})
	if err != nil {
		return nil, err
	}
	return res.Fields, nil
}

// checkFields says why a query cannot find anything: there is no such device
// or no such field, or the field holds no numbers to compute with.
func (a *app) checkFields(ctx context.Context, api *connection.Clients, req *operatorv1.QueryRequest) error {
	all, err := a.fields(ctx, api, req.DeviceId)
	if err != nil {
		return err
	}
	if err := chooseMeasurement(req, all); err != nil {
		return err
	}
	measurement := firstOf(req.Measurement, defaultMeasure)
	var here []fieldInfo
	for _, f := range all {
		if f.Measurement == measurement {
			here = append(here, f)
		}
	}
	for _, name := range req.Fields {
		i := slices.IndexFunc(here, func(f fieldInfo) bool { return f.Name == name })
		if i < 0 {
			return exitStatus{code: exitNotFound, err: fmt.Errorf("%s has no field %s in the measurement %s; 'hubctl telemetry fields %s' lists them", req.DeviceId, name, measurement, req.DeviceId)}
		}
		if computes(req.Aggregate) && !holdsNumbers(here[i]) {
			if err := a.noNumbers(ctx, api, req, here[i], name); err != nil {
				return err
			}
		}
	}
	if len(req.Fields) == 0 && len(here) > 0 && computes(req.Aggregate) && !slices.ContainsFunc(here, holdsNumbers) {
		return a.noNumbers(ctx, api, req, here[0])
	}
	return nil
}

// chooseMeasurement names the measurement of a query that has none: the default
// where the device has it, as devices on wss do, else the only one that has
// the fields, as gear has. Among several it does not guess.
func chooseMeasurement(req *operatorv1.QueryRequest, all []fieldInfo) error {
	has := map[string]int{} // fields that are asked for, by measurement
	for _, f := range all {
		has[f.Measurement] += 0
		if slices.Contains(req.Fields, f.Name) {
			has[f.Measurement]++
		}
	}
	if _, usual := has[defaultMeasure]; req.Measurement != "" || usual || len(has) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(has))
	full := slices.DeleteFunc(slices.Clone(names), func(m string) bool { return has[m] < len(req.Fields) })
	switch {
	case len(full) == 1:
		req.Measurement = full[0]
	case len(names) == 1: // and a field is missing in it
		req.Measurement = names[0]
	default:
		return usagef("%s has readings of several measurements: name one of %s by --measurement", req.DeviceId, strings.Join(names, ", "))
	}
	return nil
}

// noteOthers tells of other measurements of the device than the one that a
// query has found nothing in.
func (a *app) noteOthers(ctx context.Context, api *connection.Clients, req *operatorv1.QueryRequest) error {
	all, err := a.fields(ctx, api, req.DeviceId)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, f := range all {
		names[f.Measurement] = true
	}
	asked := firstOf(req.Measurement, defaultMeasure)
	if delete(names, asked); len(names) > 0 {
		a.notef("This was %s; %s has readings of %s too: name it by --measurement.", asked, req.DeviceId, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	return nil
}

// noNumbers refuses a field that is of texts or bools now, unless it was of
// numbers in the range: the kind of a field is that of its newest value. only
// are the fields in question; none: all.
func (a *app) noNumbers(ctx context.Context, api *connection.Clients, req *operatorv1.QueryRequest, f fieldInfo, only ...string) error {
	probe := &operatorv1.QueryRequest{DeviceId: req.DeviceId, Measurement: req.Measurement, Fields: only,
		From: req.From, To: req.To, Window: req.Window, Aggregate: req.Aggregate, TimeZone: req.TimeZone, PageSize: 1}
	res, err := call(ctx, a, api.Telemetry.Query, probe)
	if err != nil {
		return err
	}
	if len(res.Rows) > 0 {
		return nil
	}
	kind, instead := "texts", "first, last and count take texts"
	if f.Kind == operatorv1.FieldKind_FIELD_KIND_BOOL {
		kind, instead = "true or false", "first, last and count take them"
	}
	return fmt.Errorf("the values of %s are %s and have no %s: --agg %s", f.Name, kind, aggregateName(req.Aggregate), instead)
}

// computes holds for the aggregates that only numbers have.
func computes(agg operatorv1.Aggregate) bool {
	switch agg {
	case operatorv1.Aggregate_AGGREGATE_MEAN, operatorv1.Aggregate_AGGREGATE_MIN,
		operatorv1.Aggregate_AGGREGATE_MAX, operatorv1.Aggregate_AGGREGATE_SUM:
		return true
	}
	return false
}

func holdsNumbers(f fieldInfo) bool {
	return f.Kind != operatorv1.FieldKind_FIELD_KIND_BOOL && f.Kind != operatorv1.FieldKind_FIELD_KIND_STRING
}

// countAll counts the rows of all measurements, which it gives by name.
func (a *app) countAll(ctx context.Context, api *connection.Clients, req *operatorv1.CountRequest) (*operatorv1.CountResponse, map[string]uint64, error) {
	all, err := a.fields(ctx, api, req.DeviceId)
	if err != nil {
		return nil, nil, err
	}
	sum, by := new(operatorv1.CountResponse), map[string]uint64{}
	for _, f := range all {
		if _, done := by[f.Measurement]; done {
			continue
		}
		res, err := call(ctx, a, api.Telemetry.Count, &operatorv1.CountRequest{DeviceId: req.DeviceId, Measurement: f.Measurement, From: req.From, To: req.To})
		if err != nil {
			return nil, nil, err
		}
		by[f.Measurement] = res.Rows
		sum.Rows += res.Rows
	}
	return sum, by, nil
}

// countOne counts the rows of one measurement.
func (a *app) countOne(ctx context.Context, api *connection.Clients, req *operatorv1.CountRequest) (*operatorv1.CountResponse, error) {
	res, err := call(ctx, a, api.Telemetry.Count, req)
	if err == nil && res.Rows == 0 { // none of a device, or no device
		_, err = a.fields(ctx, api, req.DeviceId)
	}
	return res, err
}
