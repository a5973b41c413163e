package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

func fleetCommand() *cobra.Command {
	var (
		config   firmwaresim.FleetConfig
		ca       string
		duration time.Duration
		out      output
		verbose  bool
	)
	cmd := &cobra.Command{
		Use:   "fleet --hub URL --token T --ca FILE --devices N --interval D",
		Short: "Enrol and run many simulated devices",
		Long: `Enrol N devices at a hub and run them, until Ctrl-C or for the time given by
--for: climate sensors, motors, vehicles and gates, some with bad links and
some without a clock. Devices of an earlier run get a new credential.`,
		Example: `  firmware-sim fleet --hub https://127.0.0.1:8443 --token @hub-data/admin.token --ca hub-data/ca.pem \
    --devices 200 --interval 100ms --for 30s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := out.check(); err != nil {
				return err
			}
			if config.Token, err = readToken(config.Token); err != nil {
				return err
			}
			if config.RootCAs, err = readRoots(cmp.Or(ca, os.Getenv("TETHERLINE_CA"))); err != nil {
				return err
			}
			config.Logger = logger(cmd.ErrOrStderr(), verbose)
			config.Enrolled = func(done int) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "enrolled %d of %d devices\n", done, config.Devices)
			}
			fleet, err := firmwaresim.NewFleet(cmd.Context(), config)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, duration)
				defer cancel()
			}
			summary := fleet.Run(ctx)
			if err := out.write(cmd.OutOrStdout(), summary); err != nil {
				return err
			}
			if summary.Refused > 0 {
				return fmt.Errorf("%d devices ended with an error; --verbose tells", summary.Refused)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Hub, "hub", cmp.Or(os.Getenv("TETHERLINE_HUB"), "https://127.0.0.1:8443"), "URL of the hub's operator API")
	flags.StringVar(&config.Token, "token", "", "operator's token, or @file that holds it; empty: TETHERLINE_TOKEN")
	flags.StringVar(&ca, "ca", "", "CA of the hub, PEM; empty: TETHERLINE_CA, then the system's roots")
	flags.IntVar(&config.Devices, "devices", 25, "how many")
	flags.DurationVar(&config.Interval, "interval", time.Second, "between the rows of a device, from 1ms")
	flags.DurationVar(&config.BatchAge, "batch-age", 0, "how long a row waits for others in its frame; 0: 1s, negative: not at all")
	flags.StringVar(&config.Prefix, "prefix", "sim", "of the device ids")
	flags.StringVar(&config.Journals, "journals", "", "folder where each device remembers the commands it has run; empty: in memory")
	flags.Uint64Var(&config.Seed, "seed", 1, "of the signals and the faults")
	flags.Float64Var(&config.BadLinks, "bad-links", 0, "share of devices with a slow link that is cut now and then, 0 to 1")
	flags.Float64Var(&config.DeadClocks, "dead-clocks", 0, "share of devices without a clock, 0 to 1")
	flags.DurationVar(&duration, "for", 0, "end by itself after this time; 0: at Ctrl-C")
	flags.BoolVarP(&verbose, "verbose", "v", false, "log what the SDK does")
	out.add(cmd)
	return cmd
}
