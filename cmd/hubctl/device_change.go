package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) deviceLabel() *cobra.Command {
	return &cobra.Command{
		Use:               "label ID key=value... key-...",
		Short:             "Set labels of a device, or remove them",
		Long:              "Set labels of a device with key=value, and remove them with a minus behind the key.",
		Example:           "  hubctl device label pump-1 site=south spare-",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			var pairs, remove []string
			for _, arg := range args[1:] {
				if key, ok := strings.CutSuffix(arg, "-"); ok && key != "" && !strings.Contains(arg, "=") {
					remove = append(remove, key)
					continue
				}
				pairs = append(pairs, arg)
			}
			set, err := parseLabels(pairs)
			if err != nil {
				return err
			}
			for _, key := range remove {
				if _, both := set[key]; both {
					return usagef("label %s is both set and removed", key)
				}
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Devices.LabelDevice, &operatorv1.LabelDeviceRequest{Id: args[0], Set: set, Remove: remove})
			if err != nil {
				return err
			}
			if a.out != output.Table {
				return printOne(a, a.deviceView(), res.Device)
			}
			_, err = fmt.Fprintf(a.stdout, "device %s: %s\n", cleanName(res.GetDevice().GetId()), cleanName(firstOf(labelPairs(res.GetDevice().GetLabels(), ", "), "no labels")))
			return err
		},
	}
}

func (a *app) deviceEnable(enable bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "enable ID",
		Short:   "Let a device connect again",
		Example: "  hubctl device enable pump-1",
	}
	done := "enabled"
	if !enable {
		cmd.Use, cmd.Example, done = "disable ID", "  hubctl device disable pump-1", "disabled"
		cmd.Short = "Keep a device out, and end its connection"
		cmd.Long = "Keep a device out. A live connection ends within a second. Its credential stays valid for 'hubctl device enable'."
	}
	cmd.Args = cobra.ExactArgs(1)
	cmd.ValidArgsFunction = a.completeDevice
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		api, err := a.connect()
		if err != nil {
			return err
		}
		res, err := call(cmd.Context(), a, api.Devices.SetDeviceEnabled, &operatorv1.SetDeviceEnabledRequest{Id: args[0], Enabled: enable})
		if err != nil {
			return err
		}
		if a.out != output.Table {
			return printOne(a, a.deviceView(), res.Device)
		}
		_, err = fmt.Fprintf(a.stdout, "device %s %s\n", cleanName(res.GetDevice().GetId()), done)
		return err
	}
	return cmd
}

func (a *app) deviceRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               "rm ID",
		Short:             "Forget a device and end its access; its readings stay",
		Example:           "  hubctl device rm pump-1 --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, "Forget device %s and end its access?", args[0]); err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Devices.DeleteDevice, &operatorv1.DeleteDeviceRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return printDone(a, res, "device %s removed", args[0])
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
