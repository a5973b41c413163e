package main

import (
	"fmt"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type deviceColumn = output.Column[*operatorv1.Device]

func (a *app) deviceView() view[*operatorv1.Device] {
	return view[*operatorv1.Device]{
		table: []deviceColumn{
			{Name: "ID", Cell: (*operatorv1.Device).GetId, Whole: true},
			{Name: "STATE", Cell: deviceState},
			{Name: "KIND", Cell: (*operatorv1.Device).GetKind, When: isGear},
			{Name: "SINCE", Cell: func(d *operatorv1.Device) string { return ago(d.GetPresence().GetSince()) }},
			{Name: "LABELS", Cell: func(d *operatorv1.Device) string { return labelPairs(d.Labels, ",") }},
			{Name: "FIRMWARE", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetFirmware() }},
			{Name: "LAST DISCONNECT", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetReason() }},
		},
		csv: []deviceColumn{
			{Name: "id", Cell: (*operatorv1.Device).GetId},
			{Name: "kind", Cell: (*operatorv1.Device).GetKind},
			{Name: "enabled", Cell: func(d *operatorv1.Device) string { return fmt.Sprint(d.Enabled) }},
			{Name: "online", Cell: func(d *operatorv1.Device) string { return fmt.Sprint(d.GetPresence().GetOnline()) }},
			{Name: "since", Cell: func(d *operatorv1.Device) string { return machineTime(d.GetPresence().GetSince()) }},
			{Name: "last_seen", Cell: func(d *operatorv1.Device) string { return machineTime(d.GetPresence().GetLastSeen()) }},
			{Name: "reason", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetReason() }},
			{Name: "remote_addr", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetRemoteAddr() }},
			{Name: "firmware", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetFirmware() }},
			{Name: "node", Cell: func(d *operatorv1.Device) string { return d.GetPresence().GetNode() }},
			{Name: "labels", Cell: func(d *operatorv1.Device) string { return labelPairs(d.Labels, ";") }},
			{Name: "note", Cell: (*operatorv1.Device).GetNote},
			{Name: "generation", Cell: func(d *operatorv1.Device) string { return number(d.Generation) }},
			{Name: "allow_unbound", Cell: func(d *operatorv1.Device) string { return fmt.Sprint(d.AllowUnbound) }},
			{Name: "dropped_rows", Cell: func(d *operatorv1.Device) string { return number(d.DroppedRows) }},
			{Name: "created", Cell: func(d *operatorv1.Device) string { return machineTime(d.Created) }},
			{Name: "broker", Cell: func(d *operatorv1.Device) string { return d.GetGear().GetBroker() }},
			{Name: "profile", Cell: func(d *operatorv1.Device) string { return d.GetGear().GetProfile() }},
			{Name: "gear", Cell: func(d *operatorv1.Device) string { return d.GetGear().GetName() }},
		},
		details: a.deviceDetails,
		none:    "No devices. 'hubctl device create ID --out ID.json' makes one.",
	}
}

// isGear reports whether a device stands for gear behind the MQTT bridge, which
// has no credential and no session of its own.
func isGear(d *operatorv1.Device) bool { return d.GetGear() != nil }

func gearWords(g *operatorv1.Gear) string {
	if g == nil {
		return ""
	}
	return fmt.Sprintf("%s, of profile %s behind broker %s", g.Name, g.Profile, g.Broker)
}

func deviceState(d *operatorv1.Device) string {
	switch p := d.GetPresence(); {
	case !d.GetEnabled():
		return "disabled"
	case p.GetOnline():
		return "online"
	case p.GetSince() == nil && p.GetLastSeen() == nil:
		return "never seen"
	}
	return "offline"
}

func (a *app) deviceDetails(d *operatorv1.Device) []output.Detail {
	p, zone := d.GetPresence(), a.zone()
	since := humanTime(p.GetSince(), zone)
	if since != "" {
		since += " (" + ago(p.GetSince()) + ")"
	}
	credential := ""
	if !isGear(d) {
		credential = fmt.Sprintf("generation %d", d.Generation)
	}
	if d.RetiringGeneration > 0 {
		credential += fmt.Sprintf("; generation %d still works until %s", d.RetiringGeneration, humanTime(d.RetiringUntil, zone))
	}
	details := []output.Detail{
		{Name: "Id", Value: d.Id},
		{Name: "State", Value: deviceState(d)},
		{Name: "Since", Value: since},
		{Name: "Last seen", Value: humanTime(p.GetLastSeen(), zone)},
		{Name: "Last disconnect", Value: p.GetReason()},
		{Name: "Address", Value: p.GetRemoteAddr()},
		{Name: "Node", Value: p.GetNode()},
		{Name: "Kind", Value: d.Kind},
		{Name: "Gear", Value: gearWords(d.Gear)},
		{Name: "Firmware", Value: firstOf(p.GetFirmware(), d.GetDescription().GetFirmware())},
		{Name: "Labels", Value: labelPairs(d.Labels, ", ")},
		{Name: "Note", Value: d.Note},
		{Name: "Credential", Value: credential},
		{Name: "Created", Value: humanTime(d.Created, zone)},
	}
	if p.GetSessionEpoch() > 0 {
		details = append(details, output.Detail{Name: "Session", Value: number(p.GetSessionEpoch())})
	}
	if d.AllowUnbound {
		details = append(details, output.Detail{Name: "Channel binding", Value: "may connect without"})
	}
	if d.DroppedRows > 0 {
		details = append(details, output.Detail{Name: "Rows dropped", Value: grouped(d.DroppedRows) + " by the device itself, its spool was full"})
	}
	for _, f := range d.GetDescription().GetFields() {
		details = append(details, output.Detail{Name: "Field " + cleanName(f.Name), Value: fieldWords(f)})
	}
	for _, c := range d.GetDescription().GetCommands() {
		details = append(details, output.Detail{Name: "Command " + cleanName(c.Name), Value: commandWords(c)})
	}
	return details
}

func fieldWords(f *operatorv1.FieldDescription) string {
	var words []string
	if kind := kindName(f.Kind); kind != "" {
		words = append(words, kind)
	}
	if f.Unit != "" {
		words = append(words, "in "+f.Unit)
	}
	if f.Measurement != "" {
		words = append(words, "of "+f.Measurement)
	}
	if f.Description != "" {
		words = append(words, "– "+f.Description)
	}
	return strings.Join(words, " ")
}

func commandWords(c *operatorv1.CommandDescription) string {
	var args []string
	for _, arg := range c.Arguments {
		text := arg.Name + "=" + kindName(arg.Kind)
		if arg.Unit != "" {
			text += " in " + arg.Unit
		}
		if !arg.Required {
			text = "[" + text + "]"
		}
		args = append(args, text)
	}
	text := strings.Join(args, " ")
	if c.Description != "" {
		text = strings.TrimSpace(text + " – " + c.Description)
	}
	if text == "" {
		return "without arguments"
	}
	return text
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
