package main

import (
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type quarantined = *operatorv1.QuarantinedRow

func (a *app) quarantineCommand() *cobra.Command {
	return group("quarantine", "Look after rows that the store refused",
		"  hubctl quarantine ls\n  hubctl quarantine replay --device pump-1",
		a.quarantineList(), a.quarantineShow(), a.quarantineReplay(), a.quarantineDrop(),
	)
}

func (a *app) quarantineList() *cobra.Command {
	var device string
	var limit uint32
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List rows in quarantine, the oldest first, with the store's reason",
		Example: "  hubctl quarantine ls --device pump-1\n  hubctl quarantine ls --limit 0 -o json > rows.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.connect()
			if err != nil {
				return err
			}
			more, got, total := false, uint32(0), uint64(0)
			err = printList(a, a.quarantineView(), paged(limit, listPage, func(token string, size uint32) ([]quarantined, string, error) {
				res, err := call(cmd.Context(), a, api.Quarantine.ListQuarantine, &operatorv1.ListQuarantineRequest{DeviceId: device, PageSize: size, PageToken: token})
				if err != nil {
					return nil, "", err
				}
				got += uint32(len(res.Rows))
				total = res.Total
				more = limit > 0 && got >= limit && res.NextPageToken != ""
				return res.Rows, res.NextPageToken, nil
			}))
			if err == nil && more {
				a.notef("The oldest %d; %s rows are in quarantine in all. --limit 0 lists all.", limit, grouped(total))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&device, "device", "", "only of this device")
	f.Uint32Var(&limit, "limit", 100, "at most so many; 0: all")
	a.complete(cmd, "device", a.completeDevices)
	return cmd
}

func (a *app) quarantineShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show one row with its values and the reason",
		Example:           "  hubctl quarantine show 17",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseUint(args[0])
			if err != nil {
				return usageError{err}
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Quarantine.GetQuarantined, &operatorv1.GetQuarantinedRequest{Id: id})
			if err != nil {
				return err
			}
			return printOne(a, a.quarantineView(), res.Row)
		},
	}
}

// rowChoice is the rows that replay and drop work on.
type rowChoice struct {
	device string
	all    bool
}

func (r *rowChoice) flags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.device, "device", "", "all rows of this device")
	f.BoolVar(&r.all, "all", false, "all rows in quarantine")
	a.complete(cmd, "device", a.completeDevices)
}

// ids reads the arguments: exactly one way to choose is allowed.
func (r *rowChoice) ids(args []string) ([]uint64, error) {
	ways := 0
	for _, given := range []bool{len(args) > 0, r.device != "", r.all} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, usagef("choose the rows by their ids, or by --device, or by --all")
	}
	var ids []uint64
	for _, arg := range args {
		id, err := parseUint(arg)
		if err != nil {
			return nil, usageError{err}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (a *app) quarantineReplay() *cobra.Command {
	var rows rowChoice
	cmd := &cobra.Command{
		Use:   "replay ID...|--device DEVICE|--all",
		Short: "Try to store rows again",
		Long: `Put rows back into the buffer, from where they go to the store again: after the
cause of their refusal is gone. They leave quarantine when they are durable in
the buffer; those that the store refuses once more come back with a new id.`,
		Example: "  hubctl quarantine replay 17 18\n  hubctl quarantine replay --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := rows.ids(args)
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Quarantine.ReplayQuarantine, &operatorv1.ReplayQuarantineRequest{Ids: ids, DeviceId: rows.device, All: rows.all})
			if err != nil {
				return err
			}
			return printDone(a, res, "%s rows replayed", grouped(res.Replayed))
		},
	}
	rows.flags(a, cmd)
	return cmd
}

func (a *app) quarantineDrop() *cobra.Command {
	var rows rowChoice
	var yes bool
	cmd := &cobra.Command{
		Use:     "drop ID...|--device DEVICE|--all",
		Short:   "Delete rows for good",
		Long:    "Delete rows of the quarantine for good: these readings are lost then.",
		Example: "  hubctl quarantine drop 17\n  hubctl quarantine drop --device pump-1 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := rows.ids(args)
			if err != nil {
				return err
			}
			what := "these rows"
			if rows.device != "" {
				what = "all quarantined rows of " + rows.device
			} else if rows.all {
				what = "ALL quarantined rows"
			}
			if err := a.confirm(yes, "Delete %s for good?", what); err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, api.Quarantine.DropQuarantine, &operatorv1.DropQuarantineRequest{Ids: ids, DeviceId: rows.device, All: rows.all})
			if err != nil {
				return err
			}
			return printDone(a, res, "%s rows dropped", grouped(res.Dropped))
		},
	}
	rows.flags(a, cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) quarantineView() view[quarantined] {
	type col = output.Column[quarantined]
	values := func(r quarantined) string { return valuePairs(r.Values) }
	id := func(r quarantined) string { return number(r.Id) }
	return view[quarantined]{
		table: []col{
			{Name: "ID", Cell: id, Right: true, Whole: true},
			{Name: "DEVICE", Cell: quarantined.GetDeviceId},
			{Name: "MEASUREMENT", Cell: quarantined.GetMeasurement},
			{Name: "TIME", Cell: func(r quarantined) string { return humanTime(r.Time, a.zone()) }},
			{Name: "VALUES", Cell: values},
			{Name: "REASON", Cell: quarantined.GetReason},
		},
		csv: []col{
			{Name: "id", Cell: id},
			{Name: "device_id", Cell: quarantined.GetDeviceId},
			{Name: "measurement", Cell: quarantined.GetMeasurement},
			{Name: "time", Cell: func(r quarantined) string { return machineTime(r.Time) }},
			{Name: "values", Cell: values},
			{Name: "reason", Cell: quarantined.GetReason},
			{Name: "quarantined", Cell: func(r quarantined) string { return machineTime(r.Quarantined) }},
		},
		details: func(r quarantined) []output.Detail {
			return []output.Detail{
				{Name: "Row", Value: id(r)},
				{Name: "Device", Value: r.DeviceId},
				{Name: "Measurement", Value: r.Measurement},
				{Name: "Time", Value: humanTime(r.Time, a.zone())},
				{Name: "Values", Value: values(r)},
				{Name: "Reason", Value: r.Reason},
				{Name: "Quarantined", Value: humanTime(r.Quarantined, a.zone())},
			}
		},
		none: "Nothing is in quarantine.",
	}
}
