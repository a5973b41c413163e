package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type (
	broker   = *operatorv1.Broker
	seenGear = *operatorv1.SeenGear
)

func (a *app) bridgeCommand() *cobra.Command {
	return group("bridge", "Look after MQTT brokers and the legacy gear behind them",
		"  hubctl bridge ls\n  hubctl bridge gear barn --unknown\n  hubctl bridge sample tcp://192.0.2.7:1883",
		a.bridgeList(), a.bridgeGear(), a.bridgeAllow(), a.bridgeSample(),
	)
}

func (a *app) bridgeList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [BROKER]",
		Short: "List MQTT brokers: connected or why not, what came, what was wrong",
		Long: `List the MQTT brokers of the hub's bridge. With the name of one: its profiles and
all that was wrong lately, each reason with how often, and with the last topic
and gear that it was about.

MESSAGES came since the hub started; ROWS of them are durable; REFUSED could not
be used; UNKNOWN were of gear that is not allowed ('hubctl bridge gear').`,
		Example:           "  hubctl bridge ls\n  hubctl bridge ls barn\n  hubctl bridge ls -o json | jq '.[].problems'",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeBroker,
		RunE: func(cmd *cobra.Command, args []string) error {
			brokers, err := a.brokers(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return printList(a, a.brokerView(), each(brokers))
			}
			for _, b := range brokers {
				if b.Name == args[0] {
					return printOne(a, a.brokerView(), b)
				}
			}
			return exitStatus{code: exitNotFound, err: fmt.Errorf("the hub has no broker %q; 'hubctl bridge ls' lists them", args[0])}
		},
	}
}

func (a *app) brokers(ctx context.Context) ([]broker, error) {
	api, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, api.Bridge.ListBrokers, &operatorv1.ListBrokersRequest{})
	if err != nil {
		return nil, err
	}
	return res.Brokers, nil
}

func (a *app) bridgeGear() *cobra.Command {
	var unknown bool
	cmd := &cobra.Command{
		Use:   "gear [BROKER]",
		Short: "List gear that was heard behind brokers, and which device each is",
		Long: `List gear that was heard since the hub started, or was allowed before. Nothing of
gear that is not allowed is stored: 'hubctl bridge allow' makes a device of it.`,
		Example:           "  hubctl bridge gear\n  hubctl bridge gear barn --unknown",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeBroker,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			gear, err := a.gear(cmd.Context(), name, unknown)
			if err != nil {
				return err
			}
			return printList(a, a.gearView(), each(gear))
		},
	}
	cmd.Flags().BoolVar(&unknown, "unknown", false, "only gear that is not allowed")
	return cmd
}

func (a *app) gear(ctx context.Context, broker string, unknown bool) ([]seenGear, error) {
	api, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, api.Bridge.ListGear, &operatorv1.ListGearRequest{Broker: broker, UnknownOnly: unknown})
	if err != nil {
		return nil, err
	}
	return res.Gear, nil
}

func brokerState(b broker) string {
	if b.GetConnected() {
		return "connected"
	}
	return "NOT CONNECTED"
}

// brokerTrouble is what an operator should look at first.
func brokerTrouble(b broker) string {
	switch {
	case b.GetError() != "":
		return b.GetError()
	case len(b.GetProblems()) == 0:
		return ""
	}
	p := b.Problems[0]
	if p.GetGear() == "" && p.GetDetail() != "" {
		return p.GetReason() + ": " + p.GetDetail()
	}
	return strings.TrimSpace(p.GetReason() + " " + p.GetGear())
}

func (a *app) brokerView() view[broker] {
	type col = output.Column[broker]
	count := func(name string, get func(broker) uint64) col {
		return col{Name: name, Cell: func(b broker) string { return number(get(b)) }, Right: true}
	}
	profiles := func(b broker) string {
		var all []string
		for _, p := range b.Profiles {
			all = append(all, p.Name)
		}
		return strings.Join(all, " ")
	}
	return view[broker]{
		table: []col{
			{Name: "BROKER", Cell: broker.GetName, Whole: true},
			{Name: "STATE", Cell: brokerState, Whole: true},
			{Name: "SINCE", Cell: func(b broker) string { return age(b.Since) }},
			count("MESSAGES", broker.GetMessages),
			count("ROWS", broker.GetRows),
			count("REFUSED", broker.GetRefused),
			count("UNKNOWN", broker.GetUnknownGear),
			{Name: "TROUBLE", Cell: brokerTrouble},
		},
		csv: []col{
			{Name: "name", Cell: broker.GetName},
			{Name: "url", Cell: broker.GetUrl},
			{Name: "connected", Cell: func(b broker) string { return fmt.Sprint(b.Connected) }},
			{Name: "since", Cell: func(b broker) string { return machineTime(b.Since) }},
			{Name: "error", Cell: broker.GetError},
			{Name: "profiles", Cell: profiles},
			count("messages", broker.GetMessages),
			count("rows", broker.GetRows),
			count("refused", broker.GetRefused),
			count("unknown_gear", broker.GetUnknownGear),
			count("lost_qos0", broker.GetLostQos0),
			count("pending_messages", broker.GetPendingMessages),
			count("pending_bytes", broker.GetPendingBytes),
			count("published", broker.GetPublished),
			count("problems", func(b broker) uint64 { return uint64(len(b.Problems)) }),
			{Name: "last_problem", Cell: func(b broker) string { return problemWords(first(b.Problems)) }},
		},
		details: a.brokerDetails,
		none:    "The hub has no MQTT bridge. 'hubctl bridge sample tcp://HOST:1883' listens to a broker and writes a config for one.",
	}
}

func first[T any](items []T) (one T) {
	if len(items) > 0 {
		one = items[0]
	}
	return one
}

func (a *app) brokerDetails(b broker) []output.Detail {
	state := brokerState(b)
	if b.Since != nil {
		state += " for " + strings.TrimSuffix(ago(b.Since), " ago")
	}
	details := []output.Detail{
		{Name: "Broker", Value: b.Name},
		{Name: "Address", Value: b.Url},
		{Name: "State", Value: state},
		{Name: "Error", Value: b.Error},
		{Name: "Messages", Value: fmt.Sprintf("%s, %s of them refused, %s of gear that is not allowed", grouped(b.Messages), grouped(b.Refused), grouped(b.UnknownGear))},
		{Name: "Rows", Value: grouped(b.Rows) + " durable"},
	}
	if b.PendingMessages > 0 {
		details = append(details, output.Detail{Name: "Waiting", Value: fmt.Sprintf("%s messages (%s) for room in the buffer", grouped(b.PendingMessages), byteSize(b.PendingBytes))})
	}
	if b.LostQos0 > 0 {
		details = append(details, output.Detail{Name: "Lost", Value: "at least " + grouped(b.LostQos0) + " messages of QoS 0, for want of room or on their way from Sparkplug nodes, which count them"})
	}
	if b.Published > 0 {
		details = append(details, output.Detail{Name: "Published", Value: grouped(b.Published) + " messages"})
	}
	for _, p := range b.Profiles {
		text := fmt.Sprintf("%s pieces of gear allowed, %s unknown, %s messages", grouped(uint64(p.GearAllowed)), grouped(uint64(p.GearUnknown)), grouped(p.Messages))
		if p.Kind != p.Name {
			text = p.Kind + ", " + text
		}
		details = append(details, output.Detail{Name: "Profile " + cleanName(p.Name), Value: text})
	}
	for _, p := range b.Problems {
		details = append(details, output.Detail{Name: "Problem " + ago(p.Time), Value: problemWords(p)})
	}
	return details
}

// problemWords is a problem in one line: what, how often, where, and the
// details.
func problemWords(p *operatorv1.BridgeProblem) string {
	if p == nil {
		return ""
	}
	var where []string
	for _, part := range []struct{ name, value string }{{"profile", p.Profile}, {"gear", p.Gear}, {"topic", p.Topic}} {
		if part.value != "" {
			where = append(where, part.name+" "+part.value)
		}
	}
	text := p.Reason
	if p.Count > 1 {
		text += fmt.Sprintf(" (%s times)", grouped(p.Count))
	}
	if len(where) > 0 {
		text += ", " + strings.Join(where, ", ")
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

func (a *app) gearView() view[seenGear] {
	type col = output.Column[seenGear]
	return view[seenGear]{
		table: []col{
			{Name: "BROKER", Cell: func(g seenGear) string { return g.GetGear().GetBroker() }},
			{Name: "PROFILE", Cell: func(g seenGear) string { return g.GetGear().GetProfile() }},
			{Name: "GEAR", Cell: func(g seenGear) string { return g.GetGear().GetName() }, Whole: true},
			{Name: "DEVICE", Cell: func(g seenGear) string { return firstOf(g.DeviceId, "not allowed") }, Whole: true},
			{Name: "HEARD", Cell: func(g seenGear) string { return age(g.LastHeard) }},
			{Name: "MESSAGES", Cell: func(g seenGear) string { return number(g.Messages) }, Right: true},
			{Name: "PROBLEM", Cell: seenGear.GetProblem},
		},
		csv: []col{
			{Name: "broker", Cell: func(g seenGear) string { return g.GetGear().GetBroker() }},
			{Name: "profile", Cell: func(g seenGear) string { return g.GetGear().GetProfile() }},
			{Name: "gear", Cell: func(g seenGear) string { return g.GetGear().GetName() }},
			{Name: "kind", Cell: seenGear.GetKind},
			{Name: "device_id", Cell: seenGear.GetDeviceId},
			{Name: "first_heard", Cell: func(g seenGear) string { return machineTime(g.FirstHeard) }},
			{Name: "last_heard", Cell: func(g seenGear) string { return machineTime(g.LastHeard) }},
			{Name: "messages", Cell: func(g seenGear) string { return number(g.Messages) }},
			{Name: "problem", Cell: seenGear.GetProblem},
		},
		none: "No gear was heard.",
	}
}
