package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type hubStatus = *operatorv1.GetStatusResponse

func (a *app) statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether the hub is well; exit code 1 when it is not ready",
		Example: "  hubctl status\n  hubctl status -o json | jq .rows_per_second\n" +
			"  hubctl --data /var/lib/tetherline status --wait 30s",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var res hubStatus
			err := a.until(cmd.Context(), wait, func(api *connection.Clients) (err error) {
				if res, err = call(cmd.Context(), a, api.Hub.GetStatus, &operatorv1.GetStatusRequest{}); err == nil && !res.Ready {
					err = notYet{exitStatus{code: exitError, err: fmt.Errorf("the hub is not ready")}}
				}
				return err
			})
			if res == nil || err != nil && !errors.As(err, new(notYet)) {
				return err
			}
			return errors.Join(printOne(a, a.statusView(), res), err)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait up to so long, as 30s, until the hub is there and ready")
	return cmd
}

func (a *app) statusView() view[hubStatus] {
	count := func(name string, get func(hubStatus) uint64) output.Column[hubStatus] {
		return output.Column[hubStatus]{Name: name, Cell: func(s hubStatus) string { return number(get(s)) }}
	}
	return view[hubStatus]{
		details: a.statusDetails,
		csv: []output.Column[hubStatus]{
			{Name: "version", Cell: hubStatus.GetVersion},
			{Name: "node", Cell: hubStatus.GetNode},
			{Name: "ready", Cell: func(s hubStatus) string { return fmt.Sprint(s.Ready) }},
			{Name: "started", Cell: func(s hubStatus) string { return machineTime(s.Started) }},
			{Name: "store", Cell: hubStatus.GetStore},
			count("devices", func(s hubStatus) uint64 { return uint64(s.Devices) }),
			count("devices_online", func(s hubStatus) uint64 { return uint64(s.DevicesOnline) }),
			count("connections", hubStatus.GetConnections),
			count("connections_peak", hubStatus.GetConnectionsPeak),
			count("rows_acknowledged", hubStatus.GetRowsAcknowledged),
			count("rows_stored", hubStatus.GetRowsStored),
			count("rows_rejected", hubStatus.GetRowsRejected),
			count("rows_quarantined", hubStatus.GetRowsQuarantined),
			{Name: "rows_per_second", Cell: func(s hubStatus) string { return fmt.Sprintf("%.1f", s.RowsPerSecond) }},
			{Name: "commands_pending", Cell: pendingCommands},
			count("buffer_bytes", func(s hubStatus) uint64 { return s.GetBuffer().GetBytes() }),
			count("buffer_max_bytes", func(s hubStatus) uint64 { return s.GetBuffer().GetMaxBytes() }),
			count("buffer_chunks", func(s hubStatus) uint64 { return s.GetBuffer().GetChunks() }),
			{Name: "selector", Cell: hubStatus.GetSelector},
		},
	}
}

func (a *app) statusDetails(s hubStatus) []output.Detail {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	up := ""
	if s.Started != nil && s.Now != nil {
		up = span(s.Now.AsTime().Sub(s.Started.AsTime()))
	}
	details := []output.Detail{
		{Name: "Hub", Value: a.settings.Hub},
		{Name: "State", Value: ready},
		{Name: "Version", Value: s.Version},
		{Name: "Node", Value: s.Node},
		{Name: "Up", Value: up},
		{Name: "Counted", Value: onlyOf(s)},
		{Name: "Devices", Value: fmt.Sprintf("%s, %s online", grouped(uint64(s.Devices)), grouped(uint64(s.DevicesOnline)))},
		{Name: "Connections", Value: connectionWords(s)},
		{Name: "Rows", Value: rowWords(s)},
		{Name: "Quarantine", Value: grouped(s.RowsQuarantined) + " rows"},
		{Name: "Buffer", Value: bufferWords(s.Buffer)},
		{Name: "Store", Value: s.Store},
		{Name: "Commands", Value: firstOf(pendingCommands(s), "unknown") + " pending"},
	}
	for _, c := range s.Checks {
		text := "ok"
		if !c.Ok {
			text = "FAILED"
		}
		if c.Detail != "" {
			text += ", " + c.Detail
		}
		details = append(details, output.Detail{Name: "Check " + cleanName(c.Name), Value: text})
	}
	return details
}

// pendingCommands have no end yet; "" right after the hub's start, when it
// does not know.
func pendingCommands(s hubStatus) string {
	for _, c := range s.GetChecks() {
		if c.GetName() == "commands" && !c.GetOk() {
			return ""
		}
	}
	return number(s.GetCommandsPending())
}

// onlyOf tells that the counts are of some devices; "": of all.
func onlyOf(s hubStatus) string {
	if s.GetSelector() == "" {
		return ""
	}
	return "devices with " + s.GetSelector() + " only: the token is bound to these"
}

func connectionWords(s hubStatus) string {
	if s.GetSelector() != "" {
		return grouped(s.Connections)
	}
	return fmt.Sprintf("%s, at most %s at once", grouped(s.Connections), grouped(s.ConnectionsPeak))
}

// rowWords is empty where the hub does not tell.
func rowWords(s hubStatus) string {
	if s.GetSelector() != "" {
		return ""
	}
	return fmt.Sprintf("%s acknowledged (%.1f/s), %s stored, %s frames rejected", grouped(s.RowsAcknowledged), s.RowsPerSecond, grouped(s.RowsStored), grouped(s.RowsRejected))
}

func bufferWords(b *operatorv1.GetStatusResponse_Buffer) string {
	if b == nil {
		return ""
	}
	text := byteSize(b.Bytes)
	if b.MaxBytes > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", byteSize(b.MaxBytes), int(100*float64(b.Bytes)/float64(b.MaxBytes)))
	}
	if b.Chunks > 0 {
		text += fmt.Sprintf(", the oldest reading waits for %s", span(b.Oldest.AsDuration()))
	}
	return text
}
