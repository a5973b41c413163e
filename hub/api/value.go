package api

import (
	"strings"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// valueProto copies a value.
func valueProto(v telemetry.Value) *operatorv1.Value {
	switch v.Kind() {
	case telemetry.Double, telemetry.Float:
		return &operatorv1.Value{Value: &operatorv1.Value_DoubleValue{DoubleValue: v.Float64()}}
	case telemetry.Int:
		return &operatorv1.Value{Value: &operatorv1.Value_IntValue{IntValue: v.Int64()}}
	case telemetry.Bool:
		return &operatorv1.Value{Value: &operatorv1.Value_BoolValue{BoolValue: v.Bool()}}
	case telemetry.String:
		return &operatorv1.Value{Value: &operatorv1.Value_StringValue{StringValue: strings.Clone(v.Str())}}
	}
	return &operatorv1.Value{}
}

// valuesProto copies the fields of a row.
func valuesProto(fields []telemetry.Field) map[string]*operatorv1.Value {
	values := make(map[string]*operatorv1.Value, len(fields))
	for _, f := range fields {
		values[strings.Clone(f.Name)] = valueProto(f.Value)
	}
	return values
}

func kindProto(k telemetry.Kind) operatorv1.FieldKind {
	switch k {
	case telemetry.Double:
		return operatorv1.FieldKind_FIELD_KIND_DOUBLE
	case telemetry.Float:
		return operatorv1.FieldKind_FIELD_KIND_FLOAT
	case telemetry.Int:
		return operatorv1.FieldKind_FIELD_KIND_INT
	case telemetry.Bool:
		return operatorv1.FieldKind_FIELD_KIND_BOOL
	case telemetry.String:
		return operatorv1.FieldKind_FIELD_KIND_STRING
	}
	return operatorv1.FieldKind_FIELD_KIND_UNSPECIFIED
}

func unixNano(ns int64) time.Time { return time.Unix(0, ns).UTC() }
