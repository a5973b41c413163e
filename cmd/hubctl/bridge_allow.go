package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// allowance is what 'bridge allow' was asked for.
type allowance struct {
	*app
	id     string
	labels map[string]string
	note   string
}

func (a *app) bridgeAllow() *cobra.Command {
	var (
		id, note     string
		pairs        []string
		unknown, yes bool
	)
	cmd := &cobra.Command{
		Use:   "allow BROKER PROFILE GEAR... | BROKER [PROFILE] --all-unknown",
		Short: "Make devices of gear behind a broker: from then on its readings are stored",
		Long: `Make devices of gear that was heard behind a broker, or will be. Gear is named as
'hubctl bridge gear' shows it, each name an argument of its own; what follows --
is a name even when it begins with a minus. The device gets the id that --id
gives, or else the gear's name with other characters than A-Z a-z 0-9 _ - as '-',
behind the id-prefix of the profile.`,
		Example: `  hubctl bridge allow barn plugs kitchen --label room=kitchen
  hubctl bridge allow barn sparkplug plant/line-2/press --id press-2
  hubctl bridge allow barn --all-unknown --yes`,
		ValidArgsFunction: a.completeUnknownGear,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case unknown && (len(args) < 1 || len(args) > 2):
				return usagef("with --all-unknown name the broker, and a profile if only its gear is meant")
			case unknown && id != "", id != "" && len(args) > 3:
				return usagef("--id is for one piece of gear")
			case !unknown && len(args) < 3:
				return usagef("name the broker, the profile and the gear, as 'hubctl bridge gear --unknown' lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			labels, err := parseLabels(pairs)
			if err != nil {
				return err
			}
			w := allowance{app: a, id: id, labels: labels, note: note}
			if !unknown {
				var gear []*operatorv1.Gear
				for _, name := range args[2:] {
					gear = append(gear, &operatorv1.Gear{Broker: args[0], Profile: args[1], Name: name})
				}
				return w.run(cmd.Context(), gear)
			}
			gear, err := a.unknownGear(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(gear) == 0 {
				a.notef("All gear that was heard is allowed.")
				return nil
			}
			if err := a.confirmGear(yes, gear); err != nil {
				return err
			}
			return w.run(cmd.Context(), gear)
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "id of the device; unset: made from the gear's name")
	f.StringArrayVar(&pairs, "label", nil, "label of the device, as key=value; may be repeated")
	f.StringVar(&note, "note", "", "note for people")
	f.BoolVar(&unknown, "all-unknown", false, "allow all gear that was heard and is not allowed, of a profile or of all")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// unknownGear lists what --all-unknown stands for.
func (a *app) unknownGear(ctx context.Context, args []string) ([]*operatorv1.Gear, error) {
	seen, err := a.gear(ctx, args[0], true)
	if err != nil {
		return nil, err
	}
	var gear []*operatorv1.Gear
	for _, g := range seen {
		if len(args) < 2 || g.GetGear().GetProfile() == args[1] {
			gear = append(gear, g.GetGear())
		}
	}
	return gear, nil
}

// confirmGear shows what would be allowed and asks.
func (a *app) confirmGear(yes bool, gear []*operatorv1.Gear) error {
	if yes {
		return nil
	}
	if !terminal.IsInput(a.stdin) {
		return usagef("this would make %d devices: add --yes", len(gear))
	}
	for _, g := range gear {
		a.notef("  %s %s %s", g.GetBroker(), g.GetProfile(), g.GetName())
	}
	return a.confirm(false, "Make devices of these %d?", len(gear))
}

// run allows one after the other, and says of each what became of it.
func (w allowance) run(ctx context.Context, gear []*operatorv1.Gear) error {
	api, err := w.connect()
	if err != nil {
		return err
	}
	var made []*operatorv1.Device
	failed := 0
	for _, g := range gear {
		res, err := call(ctx, w.app, api.Bridge.AllowGear, &operatorv1.AllowGearRequest{Gear: g, DeviceId: w.id, Labels: w.labels, Note: w.note})
		switch {
		case err == nil && res.GetDevice() == nil:
			return errHollow
		case err == nil:
			made = append(made, res.Device)
		case len(gear) == 1 || interrupted(err):
			return err
		default:
			failed++
			text, _ := w.explain(err)
			w.notef("%s: %s", g.GetName(), text)
		}
	}
	if err := w.report(made); err != nil {
		return err
	}
	if failed > 0 {
		return exitStatus{code: exitPartial, err: fmt.Errorf("%d of %d pieces of gear were not allowed", failed, len(gear))}
	}
	return nil
}

func (w allowance) report(made []*operatorv1.Device) error {
	if w.out != output.Table {
		return printList(w.app, w.deviceView(), each(made))
	}
	var b strings.Builder
	for _, d := range made {
		fmt.Fprintf(&b, "%s is now device %s\n", cleanName(d.GetGear().GetName()), cleanName(d.GetId()))
	}
	_, err := fmt.Fprint(w.stdout, b.String())
	return err
}
