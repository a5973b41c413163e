package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A shell waits for completions: they come soon, are few, and fail in
// silence.
const (
	completeTimeout = 2 * time.Second
	completeMost    = 200
)

type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// complete gives a flag its completion. A name that the command does not have
// is a mistake of this program, found by its tests.
func (a *app) complete(cmd *cobra.Command, flag string, f completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

func fixed(words ...string) completion {
	return func(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		var fit []string
		for _, w := range words {
			if strings.HasPrefix(strings.ToLower(w), strings.ToLower(toComplete)) {
				fit = append(fit, w)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDevice completes a first argument that is a device id.
func (a *app) completeDevice(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeDevices(cmd, args, toComplete)
}

// completeDevices completes device ids from the API.
func (a *app) completeDevices(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	api, ctx, cancel, ok := a.completing(cmd)
	defer cancel()
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	res, err := call(ctx, a, api.Devices.ListDevices, &operatorv1.ListDevicesRequest{IdPrefix: toComplete, PageSize: completeMost})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, d := range res.Devices {
		if strings.HasPrefix(d.Id, toComplete) && deviceID.MatchString(d.Id) {
			ids = append(ids, cobra.CompletionWithDesc(d.Id, cleanName(deviceState(d))))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeCommandID completes the ids of recent commands.
func (a *app) completeCommandID(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	api, ctx, cancel, ok := a.completing(cmd)
	defer cancel()
	if !ok || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	res, err := call(ctx, a, api.Commands.ListCommands, &operatorv1.ListCommandsRequest{PageSize: completeMost})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, c := range res.Commands {
		if strings.HasPrefix(c.Id, toComplete) && commandKey.MatchString(c.Id) {
			ids = append(ids, cobra.CompletionWithDesc(c.Id, cleanName(c.GetSpec().GetName()+" to "+c.DeviceId+", "+stateName(c.State))))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeDeviceCommand completes a device id, then a command name that the
// device has described.
func (a *app) completeDeviceCommand(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeDevice(cmd, args, toComplete)
	}
	return a.completeDescribed(cmd, args[0], func(d *operatorv1.Description) (names []string) {
		for _, c := range d.GetCommands() {
			names = append(names, c.Name)
		}
		return names
	})
}

// completeDeviceFields completes a device id, then its field names.
func (a *app) completeDeviceFields(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeDevice(cmd, args, toComplete)
	}
	return a.completeDescribed(cmd, args[0], func(d *operatorv1.Description) (names []string) {
		for _, f := range d.GetFields() {
			names = append(names, f.Name)
		}
		return names
	})
}

func (a *app) completeDescribed(cmd *cobra.Command, id string, names func(*operatorv1.Description) []string) ([]string, cobra.ShellCompDirective) {
	api, ctx, cancel, ok := a.completing(cmd)
	defer cancel()
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	res, err := call(ctx, a, api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: id})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, name := range names(res.GetDevice().GetDescription()) {
		if deviceID.MatchString(name) {
			words = append(words, name)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	f, err := a.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.Names(), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completing(cmd *cobra.Command) (api *connection.Clients, ctx context.Context, cancel context.CancelFunc, ok bool) {
	ctx = cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel = context.WithTimeout(ctx, completeTimeout)
	api, err := a.connect()
	return api, ctx, cancel, err == nil
}
