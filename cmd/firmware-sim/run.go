package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/device/client"
	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

func runCommand() *cobra.Command {
	var (
		file, spool string
		duration    time.Duration
		config      firmwaresim.DeviceConfig
		out         output
		verbose     bool
	)
	cmd := &cobra.Command{
		Use:   "run --device device.json",
		Short: "Run one simulated ESP32",
		Long: `Run one simulated ESP32 from the file that "hubctl device create ID --out
device.json" has written, until Ctrl-C or for the time given by --for. A rotated
credential is written back to the file, and the commands that it has run are
remembered beside it, in device.json.journal. With --spool rows that the hub
has not acknowledged survive a crash.`,
		Example: "  firmware-sim run --device barn-1.json\n  firmware-sim run --device barn-1.json --model motor --interval 100ms --for 1m -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			device, err := client.LoadFile(file)
			if err != nil {
				return err
			}
			roots, err := client.RootsFromPEM(device.CAPEM)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			config.Client.URL = device.HubURL
			config.Client.RootCAs = roots
			config.Client.Credentials = client.NewFileStore(file)
			config.Client.JournalPath = file + ".journal"
			config.Client.Logger = logger(cmd.ErrOrStderr(), verbose)
			config.Client.OnStateChange = func(s client.State, why error) {
				line := fmt.Sprintf("%s %s: %s", time.Now().Format(time.TimeOnly), device.DeviceID, s)
				if why != nil {
					line += ": " + explained(why, cmd).Error()
				}
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
			if spool != "" {
				s, err := client.OpenFileSpool(spool, client.FileSpoolOptions{})
				if err != nil {
					return err
				}
				defer func() { _ = s.Close() }()
				config.Client.Spool = s
			}
			ctx := cmd.Context()
			if duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, duration)
				defer cancel()
			}
			summary, err := firmwaresim.RunDevice(ctx, config)
			if err != nil && summary.Sessions == 0 && summary.RowsPublished == 0 {
				return err // there is nothing to sum up
			}
			return errors.Join(err, out.write(cmd.OutOrStdout(), summary))
		},
	}
	cmd.Flags().StringVar(&file, "device", "device.json", "the device's file")
	cmd.Flags().StringVar(&spool, "spool", "", "folder for rows that wait; empty: in memory")
	cmd.Flags().StringVar(&config.Model, "model", "climate", "what it is: "+strings.Join(firmwaresim.Models(), ", "))
	cmd.Flags().DurationVar(&config.Interval, "interval", time.Second, "between rows, from 1ms")
	cmd.Flags().Uint64Var(&config.Seed, "seed", 1, "of the signals")
	cmd.Flags().DurationVar(&duration, "for", 0, "end by itself after this time; 0: at Ctrl-C")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what the SDK does")
	out.add(cmd)
	return cmd
}
