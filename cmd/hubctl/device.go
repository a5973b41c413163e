package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const listPage = 1000

func (a *app) deviceCommand() *cobra.Command {
	cmd := group("device", "Manage devices and their credentials",
		"  hubctl device ls --selector site=north --online\n  hubctl device create pump-1 --out pump-1.json",
		a.deviceCreate(), a.deviceList(), a.deviceShow(), a.deviceLabel(), a.deviceEnable(true), a.deviceEnable(false),
		a.deviceRotate(), a.deviceRemove(), a.deviceImport(), a.deviceWatch(),
	)
	cmd.Aliases = []string{"devices"}
	return cmd
}

func (a *app) deviceList() *cobra.Command {
	var selector, prefix string
	var online, offline bool
	var limit uint32
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List devices in the order of their ids",
		Long: `List devices in the order of their ids.

A selector is a list of conditions on labels, all of which must hold:
key=value, other!=value, key (is set), !key (is not set).`,
		Example: "  hubctl device ls\n  hubctl device ls --selector site=north,!spare --offline\n  hubctl device ls -o csv > devices.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if online && offline {
				return usagef("--online and --offline exclude each other")
			}
			req := &operatorv1.ListDevicesRequest{Selector: selector, IdPrefix: prefix}
			if online || offline {
				req.Online = &online
			}
			total := uint32(0)
			devices, err := a.devices(cmd.Context(), req, limit, &total)
			if err != nil {
				return err
			}
			if err := printList(a, a.deviceView(), devices); err != nil {
				return err
			}
			if limit > 0 && total > limit {
				a.notef("%s of %s devices; --limit 0 lists all", grouped(uint64(limit)), grouped(uint64(total)))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&selector, "selector", "l", "", "only devices whose labels match")
	f.StringVar(&prefix, "prefix", "", "only ids that begin so")
	f.BoolVar(&online, "online", false, "only devices that are connected")
	f.BoolVar(&offline, "offline", false, "only devices that are not connected")
	f.Uint32Var(&limit, "limit", 0, "at most so many; 0: all")
	return cmd
}

// devices lists what matches req, up to limit (0: all); total becomes the
// number of all that match.
func (a *app) devices(ctx context.Context, req *operatorv1.ListDevicesRequest, limit uint32, total *uint32) (iter.Seq2[*operatorv1.Device, error], error) {
	api, err := a.connect()
	if err != nil {
		return nil, err
	}
	return paged(limit, listPage, func(token string, size uint32) ([]*operatorv1.Device, string, error) {
		req.PageToken, req.PageSize = token, size
		res, err := call(ctx, a, api.Devices.ListDevices, req)
		if err != nil {
			return nil, "", err
		}
		*total = res.Total
		return res.Devices, res.NextPageToken, nil
	}), nil
}

func (a *app) deviceShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show one device: labels, presence, credential, what it says of itself",
		Example:           "  hubctl device show pump-1\n  hubctl device show pump-1 -o json | jq .presence",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return printOne(a, a.deviceView(), res.Device)
		},
	}
}
