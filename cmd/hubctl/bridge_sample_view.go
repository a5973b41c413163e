package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type sampledGear = *operatorv1.SampledGear

func (a *app) sampledGearView() view[sampledGear] {
	type col = output.Column[sampledGear]
	return view[sampledGear]{table: []col{
		{Name: "PROFILE", Cell: sampledGear.GetProfile},
		{Name: "GEAR", Cell: sampledGear.GetName, Whole: true},
		{Name: "DEVICE", Cell: sampledGear.GetDeviceId, Whole: true},
		{Name: "STATUS", Cell: sampledGear.GetStatus},
		{Name: "COMMANDS", Cell: func(g sampledGear) string { return strings.Join(g.Commands, " ") }},
		{Name: "PROBLEM", Cell: sampledGear.GetProblem},
	}}
}

// printFields prints the fields of each device, in lines that nothing cuts.
func (a *app) printFields(gear []sampledGear) error {
	var b strings.Builder
	for _, g := range gear {
		if len(g.Fields) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s:\n", cleanName(firstOf(g.DeviceId, g.Name)))
		for _, f := range g.Fields {
			fmt.Fprintf(&b, "  %s: %s\n", cleanName(f.Name), cleanName(fieldWords(f)))
		}
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// sampledFields has a record for each field, so that a CSV file has the same
// columns for all gear; gear without fields has one too.
func sampledFields(gear []sampledGear) []sampledGear {
	var out []sampledGear
	for _, g := range gear {
		if len(g.Fields) == 0 {
			out = append(out, g)
		}
		for _, f := range g.Fields {
			one := proto.CloneOf(g)
			one.Fields = []*operatorv1.FieldDescription{f}
			out = append(out, one)
		}
	}
	return out
}

func sampledView() view[sampledGear] {
	only := func(g sampledGear) *operatorv1.FieldDescription { return first(g.Fields) }
	return view[sampledGear]{csv: []output.Column[sampledGear]{
		{Name: "kind", Cell: sampledGear.GetKind},
		{Name: "profile", Cell: sampledGear.GetProfile},
		{Name: "gear", Cell: sampledGear.GetName},
		{Name: "device_id", Cell: sampledGear.GetDeviceId},
		{Name: "status", Cell: sampledGear.GetStatus},
		{Name: "measurement", Cell: func(g sampledGear) string { return only(g).GetMeasurement() }},
		{Name: "field", Cell: func(g sampledGear) string { return only(g).GetName() }},
		{Name: "type", Cell: func(g sampledGear) string { return kindName(only(g).GetKind()) }},
		{Name: "unit", Cell: func(g sampledGear) string { return only(g).GetUnit() }},
		{Name: "commands", Cell: func(g sampledGear) string { return strings.Join(g.Commands, " ") }},
		{Name: "problem", Cell: sampledGear.GetProblem},
	}}
}

func unrecognisedView() view[*operatorv1.SampledTopic] {
	type topic = *operatorv1.SampledTopic
	return view[topic]{table: []output.Column[topic]{
		{Name: "TOPIC", Cell: topic.GetTopic},
		{Name: "MESSAGES", Cell: func(t topic) string { return number(t.Messages) }, Right: true},
		{Name: "WHY", Cell: topic.GetReason},
		{Name: "PAYLOAD", Cell: topic.GetPayload},
	}}
}

// printableLines makes text harmless for the screen, line by line.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = cleanName(line)
	}
	return strings.Join(lines, "\n")
}
