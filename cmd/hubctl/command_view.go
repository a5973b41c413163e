package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type command = *operatorv1.Command

func (a *app) commandView() view[command] {
	type col = output.Column[command]
	return view[command]{
		table: []col{
			{Name: "ID", Cell: command.GetId, Whole: true, Begin: true},
			{Name: "DEVICE", Cell: command.GetDeviceId},
			{Name: "NAME", Cell: func(c command) string { return c.GetSpec().GetName() }, Whole: true},
			{Name: "STATE", Cell: commandState, Whole: true},
			{Name: "AGE", Cell: func(c command) string { return age(c.Created) }},
			{Name: "TRIES", Cell: func(c command) string { return number(c.Attempts) }, Right: true},
			{Name: "REASON", Cell: func(c command) string { return firstOf(c.Message, c.Reason) }},
		},
		csv: []col{
			{Name: "id", Cell: command.GetId},
			{Name: "device_id", Cell: command.GetDeviceId},
			{Name: "name", Cell: func(c command) string { return c.GetSpec().GetName() }},
			{Name: "state", Cell: func(c command) string { return stateName(c.State) }},
			{Name: "code", Cell: func(c command) string { return number(c.Code) }},
			{Name: "message", Cell: command.GetMessage},
			{Name: "result", Cell: rawResult},
			{Name: "reason", Cell: command.GetReason},
			{Name: "attempts", Cell: func(c command) string { return number(c.Attempts) }},
			{Name: "progress_percent", Cell: func(c command) string { return number(c.ProgressPercent) }},
			{Name: "created", Cell: func(c command) string { return machineTime(c.Created) }},
			{Name: "expires", Cell: func(c command) string { return machineTime(c.Expires) }},
			{Name: "ended", Cell: func(c command) string { return machineTime(c.Ended) }},
			{Name: "group_id", Cell: command.GetGroupId},
			{Name: "operator", Cell: command.GetOperator},
			{Name: "payload", Cell: func(c command) string { return rawPayload(c.Spec) }},
			{Name: "result_encoding", Cell: resultEncoding},
			{Name: "no_code", Cell: func(c command) string { return fmt.Sprint(c.NoCode) }},
		},
		details: a.commandDetails,
		none:    "No commands.",
	}
}

func commandState(c command) string {
	name := stateName(c.State)
	if c.State == operatorv1.CommandState_COMMAND_STATE_RUNNING && c.ProgressPercent > 0 {
		name += fmt.Sprintf(" %d%%", c.ProgressPercent)
	}
	return name
}

func (a *app) commandDetails(c command) []output.Detail {
	zone := a.zone()
	details := []output.Detail{
		{Name: "Id", Value: c.Id},
		{Name: "Device", Value: c.DeviceId},
		{Name: "Command", Value: c.GetSpec().GetName()},
		{Name: "Payload", Value: specPayload(c.Spec)},
		{Name: "State", Value: commandState(c)},
		{Name: "Reason", Value: c.Reason},
	}
	if hasEnded(c.State) {
		details = append(details, output.Detail{Name: "Answer", Value: answerWords(c)})
	}
	return append(details,
		output.Detail{Name: "Result", Value: commandResult(c)},
		output.Detail{Name: "Tries", Value: number(c.Attempts)},
		output.Detail{Name: "Replay", Value: replayName(c.GetSpec().GetReplay())},
		output.Detail{Name: "Sent by", Value: c.Operator},
		output.Detail{Name: "Group", Value: c.GroupId},
		output.Detail{Name: "Created", Value: humanTime(c.Created, zone)},
		output.Detail{Name: "Expires", Value: humanTime(c.Expires, zone)},
		output.Detail{Name: "Ended", Value: humanTime(c.Ended, zone)},
	)
}

// answerWords are the code and message of the device's answer.
func answerWords(c command) string {
	code := ""
	switch {
	case c.NoCode:
		code = "no code"
	case c.Code > 0:
		code = fmt.Sprintf("code %d (%s)", c.Code, connect.Code(c.Code))
	}
	return joined(": ", code, c.Message)
}

// specPayload is a payload for people: what is not text says so.
func specPayload(s *operatorv1.CommandSpec) string {
	if p, ok := s.GetPayload().(*operatorv1.CommandSpec_Protobuf); ok {
		return bytesWords(p.Protobuf)
	}
	return s.GetJson()
}

// commandResult is the same for a result.
func commandResult(c command) string {
	if r, ok := c.GetResult().(*operatorv1.Command_Protobuf); ok {
		return bytesWords(r.Protobuf)
	}
	return c.GetJson()
}

// bytesWords shows bytes that are not JSON: text as such, others as base64.
func bytesWords(b []byte) string {
	text := string(b)
	if utf8.Valid(b) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		return fmt.Sprintf("%q (%s, not JSON)", text, counted(len(b)))
	}
	return fmt.Sprintf("%s (%s, as base64)", base64.StdEncoding.EncodeToString(b), counted(len(b)))
}

func counted(bytes int) string {
	if bytes == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// rawPayload is a payload for programs: JSON, or base64.
func rawPayload(s *operatorv1.CommandSpec) string {
	if p, ok := s.GetPayload().(*operatorv1.CommandSpec_Protobuf); ok {
		return base64.StdEncoding.EncodeToString(p.Protobuf)
	}
	return s.GetJson()
}

// rawResult is a result for programs; resultEncoding says which of the two.
func rawResult(c command) string {
	if r, ok := c.GetResult().(*operatorv1.Command_Protobuf); ok {
		return base64.StdEncoding.EncodeToString(r.Protobuf)
	}
	return c.GetJson()
}

func resultEncoding(c command) string {
	switch c.GetResult().(type) {
	case *operatorv1.Command_Json:
		return "json"
	case *operatorv1.Command_Protobuf:
		return "base64"
	}
	return ""
}

func hasEnded(s operatorv1.CommandState) bool {
	return s >= operatorv1.CommandState_COMMAND_STATE_SUCCEEDED
}
