package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// plainGear is gear whose name a shell takes as it is.
var plainGear = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./:@%+-]*$`)

// completeBroker completes a first argument that is a broker's name.
func (a *app) completeBroker(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		for _, b := range a.brokersNow(cmd) {
			if strings.HasPrefix(b.Name, toComplete) && deviceID.MatchString(b.Name) {
				names = append(names, cobra.CompletionWithDesc(b.Name, cleanName(brokerState(b))))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeUnknownGear completes a broker, one of its profiles, then gear of
// both that is not allowed.
func (a *app) completeUnknownGear(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var names []string
	switch len(args) {
	case 0:
		return a.completeBroker(cmd, args, toComplete)
	case 1:
		for _, b := range a.brokersNow(cmd) {
			for _, p := range b.Profiles {
				if b.Name == args[0] && strings.HasPrefix(p.Name, toComplete) && deviceID.MatchString(p.Name) {
					names = append(names, cobra.CompletionWithDesc(p.Name, cleanName(p.Kind)))
				}
			}
		}
	default:
		names = a.gearNow(cmd, args, toComplete)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) brokersNow(cmd *cobra.Command) []broker {
	api, ctx, cancel, ok := a.completing(cmd)
	defer cancel()
	if !ok {
		return nil
	}
	res, err := call(ctx, a, api.Bridge.ListBrokers, &operatorv1.ListBrokersRequest{})
	if err != nil {
		return nil
	}
	return res.Brokers
}

func (a *app) gearNow(cmd *cobra.Command, args []string, toComplete string) []string {
	api, ctx, cancel, ok := a.completing(cmd)
	defer cancel()
	if !ok {
		return nil
	}
	res, err := call(ctx, a, api.Bridge.ListGear, &operatorv1.ListGearRequest{Broker: args[0], UnknownOnly: true})
	if err != nil {
		return nil
	}
	var names []string
	for _, g := range res.Gear {
		name := g.GetGear().GetName()
		if g.GetGear().GetProfile() == args[1] && strings.HasPrefix(name, toComplete) && plainGear.MatchString(name) && len(names) < completeMost {
			names = append(names, name)
		}
	}
	return names
}
