package main

import (
	"maps"
	"slices"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) latestView() view[*operatorv1.LatestResponse_Item] {
	type item = *operatorv1.LatestResponse_Item
	type col = output.Column[item]
	val := func(i item) string { return value(i.Value) }
	return view[item]{
		table: []col{
			{Name: "MEASUREMENT", Cell: item.GetMeasurement},
			{Name: "FIELD", Cell: item.GetField, Whole: true},
			{Name: "VALUE", Cell: func(i item) string { return reading(i.Value) }, Right: true},
			{Name: "UNIT", Cell: item.GetUnit},
			{Name: "TIME", Cell: func(i item) string { return humanTime(i.Time, a.zone()) }},
			{Name: "AGE", Cell: func(i item) string { return ago(i.Time) }},
		},
		csv: []col{
			{Name: "measurement", Cell: item.GetMeasurement},
			{Name: "field", Cell: item.GetField},
			{Name: "value", Cell: val},
			{Name: "unit", Cell: item.GetUnit},
			{Name: "time", Cell: func(i item) string { return machineTime(i.Time) }},
		},
		none: "No readings of this device yet.",
	}
}

func fieldView() view[*operatorv1.ListFieldsResponse_Field] {
	type item = *operatorv1.ListFieldsResponse_Field
	columns := func(names ...string) []output.Column[item] {
		return []output.Column[item]{
			{Name: names[0], Cell: item.GetMeasurement},
			{Name: names[1], Cell: item.GetName, Whole: true},
			{Name: names[2], Cell: func(f item) string { return kindName(f.Kind) }},
			{Name: names[3], Cell: item.GetUnit},
		}
	}
	return view[item]{
		table: columns("MEASUREMENT", "FIELD", "KIND", "UNIT"),
		csv:   columns("measurement", "name", "kind", "unit"),
		none:  "No fields of this device yet.",
	}
}

// countView shows the sum and, where there are several, the measurements.
func countView(by map[string]uint64) view[*operatorv1.CountResponse] {
	column := []output.Column[*operatorv1.CountResponse]{
		{Name: "rows", Cell: func(c *operatorv1.CountResponse) string { return number(c.Rows) }},
	}
	return view[*operatorv1.CountResponse]{table: column, csv: column, details: func(c *operatorv1.CountResponse) []output.Detail {
		details := []output.Detail{{Name: "Rows", Value: grouped(c.Rows)}}
		if len(by) > 1 {
			for _, name := range slices.Sorted(maps.Keys(by)) {
				details = append(details, output.Detail{Name: "  " + terminal.Clean(name), Value: grouped(by[name])})
			}
		}
		return details
	}}
}

// rowColumns are those of rows with these fields: the time and a column for
// each, written by text.
func rowColumns(timeName string, when func(*operatorv1.QueryResponse_Row) string, fields []string, text func(*operatorv1.Value) string) []output.Column[*operatorv1.QueryResponse_Row] {
	columns := []output.Column[*operatorv1.QueryResponse_Row]{{Name: timeName, Cell: when, Whole: true}}
	for _, field := range fields {
		columns = append(columns, output.Column[*operatorv1.QueryResponse_Row]{
			Name:  field,
			Right: true,
			Cell:  func(r *operatorv1.QueryResponse_Row) string { return text(r.Values[field]) },
		})
	}
	return columns
}
