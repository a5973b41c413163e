package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// waitsFor says what holds a command up, and until when. The device's presence
// is part of it; without the right to see that, the command's own state has
// to do.
func (a *app) waitsFor(ctx context.Context, api *connection.Clients, c command, events []*operatorv1.CommandEvent) string {
	res, err := call(ctx, a, api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: c.DeviceId})
	d := res.GetDevice()
	where := ""
	if err == nil {
		where = whereabouts(d)
	}
	left := ""
	switch c.State {
	case operatorv1.CommandState_COMMAND_STATE_DELIVERED, operatorv1.CommandState_COMMAND_STATE_RUNNING:
		if at, ok := givenUpAt(c, events); ok {
			left = "; the hub gives up in " + span(max(0, time.Until(at)))
		}
		return "It waits for the result of the device" + strings.TrimSuffix(where, ",") + left + "."
	}
	if c.Expires != nil {
		if d := time.Until(c.Expires.AsTime()); d > 0 {
			left = "; it expires in " + span(d)
		}
	}
	switch {
	case err == nil && sentInVain(c, events, d.GetPresence()):
		return "The connection that it was sent on is gone, and a command of the class once is not sent again: whether the device got it is not known. " +
			"The hub ends it TIMED_OUT within " + span(c.GetSpec().GetTimeout().AsDuration()) + " of that, unless the device says something about it."
	case c.State == operatorv1.CommandState_COMMAND_STATE_SENT && d.GetGear() != nil:
		return "It waits for the answer of the gear" + strings.TrimSuffix(where, ",") + left + "."
	case c.State == operatorv1.CommandState_COMMAND_STATE_SENT:
		return "It waits for the word of the device" + where + " that it has it" + left + "."
	case err != nil:
		return "It waits to be sent" + left + "."
	case where != "":
		return "It waits for the device" + strings.TrimSuffix(where, ",") + left + "."
	}
	return "The device is online; it waits for its turn" + left + "."
}

// sentInVain reports that a command of the class once was sent on a session
// that is over.
func sentInVain(c command, events []*operatorv1.CommandEvent, p *operatorv1.Presence) bool {
	if c.State != operatorv1.CommandState_COMMAND_STATE_SENT || c.GetSpec().GetReplay() != operatorv1.ReplayClass_REPLAY_CLASS_ONCE {
		return false
	}
	for _, e := range slices.Backward(events) {
		if e.GetState() == operatorv1.CommandState_COMMAND_STATE_SENT {
			return !p.GetOnline() || p.GetSessionEpoch() > e.GetSessionEpoch()
		}
	}
	return false
}

// disabledBy says who has disabled a device, and when: " by ann 2 h ago".
func disabledBy(d *operatorv1.Device) string {
	text := ""
	if d.GetDisabledBy() != "" {
		text = " by " + d.GetDisabledBy()
	}
	if d.GetDisabledSince() != nil {
		text += " " + ago(d.GetDisabledSince())
	}
	return text
}

// whereabouts of a device that cannot answer now, as a clause between commas;
// "" where it is online.
func whereabouts(d *operatorv1.Device) string {
	p := d.GetPresence()
	switch {
	case !d.GetEnabled():
		return ", which is disabled" + disabledBy(d) + " ('hubctl device enable " + d.GetId() + "'),"
	case p.GetOnline():
		return ""
	case p.GetSince() == nil:
		return ", which has never connected,"
	}
	why := ""
	if p.GetReason() != "" {
		why = " (" + p.GetReason() + ")"
	}
	return ", which went offline " + ago(p.GetSince()) + why + ","
}

// givenUpAt is when the time of a delivered command to answer is over: it
// runs from the device's first word on.
func givenUpAt(c command, events []*operatorv1.CommandEvent) (time.Time, bool) {
	for _, e := range events {
		switch e.GetState() {
		case operatorv1.CommandState_COMMAND_STATE_DELIVERED, operatorv1.CommandState_COMMAND_STATE_RUNNING:
			return e.GetTime().AsTime().Add(c.GetSpec().GetTimeout().AsDuration()), c.GetSpec().GetTimeout() != nil
		}
	}
	return time.Time{}, false
}
