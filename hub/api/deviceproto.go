package api

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// deviceProto is a device with its presence, as the API shows it.
func (s *Server) deviceProto(d *registry.Device) *operatorv1.Device {
	presence := s.deps.Live.Presence(d.ID)
	out := &operatorv1.Device{
		Id:           d.ID,
		Labels:       d.Labels,
		Enabled:      !d.Disabled,
		Generation:   d.Generation,
		Created:      timestamp(d.Created),
		Note:         d.Note,
		AllowUnbound: d.AllowUnbound,
		Presence:     presenceProto(presence),
		Description:  descriptionProto(describeOf(d)),
		DroppedRows:  presence.Dropped,
		Kind:         d.Kind,
		Gear:         gearProto(d.Gear),
	}
	if d.Disabled {
		out.DisabledBy, out.DisabledSince = d.DisabledBy, timestamp(d.DisabledSince)
	}
	if d.Retiring != nil && time.Now().Before(d.Retiring.Until) {
		out.RetiringGeneration = d.Retiring.Generation
		out.RetiringUntil = timestamp(d.Retiring.Until)
	}
	return out
}

func presenceProto(p registry.Presence) *operatorv1.Presence {
	return &operatorv1.Presence{
		Online:       p.Online,
		Since:        timestamp(p.Since),
		LastSeen:     timestamp(p.LastSeen),
		Reason:       p.Reason,
		RemoteAddr:   p.RemoteAddr,
		Firmware:     p.Firmware,
		SessionEpoch: p.Epoch,
		Node:         p.Node,
	}
}

// timestamp is unset for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// describeOf is what a device told of itself; nil: nothing that can be read.
func describeOf(d *registry.Device) *devicev1.Describe {
	if d == nil || len(d.Describe) == 0 {
		return nil
	}
	describe := new(devicev1.Describe)
	if proto.Unmarshal(d.Describe, describe) != nil {
		return nil
	}
	return describe
}

func descriptionProto(in *devicev1.Describe) *operatorv1.Description {
	if in == nil {
		return nil
	}
	out := &operatorv1.Description{Firmware: in.GetFirmware()}
	for _, f := range in.GetFields() {
		out.Fields = append(out.Fields, &operatorv1.FieldDescription{
			Name: f.GetName(), Unit: f.GetUnit(), Kind: describedKind(f.GetKind()),
			Measurement: f.GetMeasurement(), Description: f.GetDescription(),
		})
	}
	for _, c := range in.GetCommands() {
		command := &operatorv1.CommandDescription{Name: c.GetName(), Description: c.GetDescription()}
		for _, a := range c.GetArguments() {
			command.Arguments = append(command.Arguments, &operatorv1.ArgumentDescription{
				Name: a.GetName(), Kind: describedKind(a.GetKind()), Required: a.GetRequired(),
				Unit: a.GetUnit(), Description: a.GetDescription(),
			})
		}
		out.Commands = append(out.Commands, command)
	}
	return out
}

// describedKind is the same kind by its name in the operator API.
func describedKind(k devicev1.Kind) operatorv1.FieldKind {
	switch k {
	case devicev1.Kind_KIND_DOUBLE:
		return operatorv1.FieldKind_FIELD_KIND_DOUBLE
	case devicev1.Kind_KIND_FLOAT:
		return operatorv1.FieldKind_FIELD_KIND_FLOAT
	case devicev1.Kind_KIND_INT:
		return operatorv1.FieldKind_FIELD_KIND_INT
	case devicev1.Kind_KIND_BOOL:
		return operatorv1.FieldKind_FIELD_KIND_BOOL
	case devicev1.Kind_KIND_STRING:
		return operatorv1.FieldKind_FIELD_KIND_STRING
	}
	return operatorv1.FieldKind_FIELD_KIND_UNSPECIFIED
}

// units of a device's fields, by measurement and field.
type units map[[2]string]string

func unitsOf(d *registry.Device) units {
	described := make(units)
	for _, f := range describeOf(d).GetFields() {
		measurement := f.GetMeasurement()
		if measurement == "" {
			measurement = telemetry.DefaultMeasurement
		}
		described[[2]string{measurement, f.GetName()}] = f.GetUnit()
	}
	return described
}

func (u units) of(measurement, field string) string { return u[[2]string{measurement, field}] }
