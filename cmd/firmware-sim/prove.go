package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

func proveCommand() *cobra.Command {
	var (
		config firmwaresim.ProveConfig
		out    output
		quiet  bool
	)
	var faults strings.Builder
	_ = firmwaresim.FaultHelp(&faults)
	cmd := &cobra.Command{
		Use:   "prove [--for 2m]",
		Short: "Break a hub in every way, and show that it keeps its promises",
		Long: `Start a hub and an InfluxDB as processes of their own in a temporary folder, run
a fleet and commands against them, break things by a schedule, mend all of it,
and compare what the devices know with what the hub says:

  - every reading that was acknowledged is stored, or in quarantine with a
    reason; none twice, none changed, none under another name
  - every command has one end, which is the one its device knows, and no id ran
    twice
  - the hub's process holds no more memory, goroutines and descriptors in the
    end than in the beginning

Readings are compared one by one, by number, time and value, through the
operator API; the ledger of a device takes 3 bits a reading. Exit status 0 says
that every promise that was tried has held. A run of 30 s and more goes on, for
two minutes at most, until each was tried; where one was not, the verdict says why,
and what to run. It names the promises, and the tests of what cannot be judged
from outside.

The schedule is printed; it follows from --seed, --for and the faults that are
possible here, and repeats with them. Without an InfluxDB 1.8 (--influxd, the
environment's TETHERLINE_INFLUXD, the PATH, the cache of "make test") the hub
stores in its embedded store, and the faults of a store are left out.

The faults:

` + faults.String() + `
A torn write is what a loss of power leaves of a write that was under way:
bytes behind the last record. Bytes of acknowledged readings are not damaged:
a disk that changes what was fsynced is beyond what one hub can promise.`,
		Example: `  firmware-sim prove
  firmware-sim prove --for 10m --seed 7
  firmware-sim prove --for 8h --devices 1000 --rate 500 -o json
  firmware-sim prove --only hub-kill,link-cut`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if !quiet {
				config.Progress = func(line string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), line) }
			}
			verdict, err := firmwaresim.Prove(cmd.Context(), config)
			if err != nil {
				return err
			}
			if err := out.write(cmd.OutOrStdout(), verdict); err != nil {
				return err
			}
			if !verdict.Held {
				return errors.New("a promise is broken: see the verdict")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&config.For, "for", 2*time.Minute, "how long things break, 10s to 48h")
	flags.IntVar(&config.Devices, "devices", 200, "how many, 5 to 5000")
	flags.Float64Var(&config.Rate, "rate", 1000, "rows a second of all devices together")
	flags.Float64Var(&config.Commands, "commands", 5, "commands a second to all devices together")
	flags.Uint64Var(&config.Seed, "seed", 0, "of the schedule; 0: a new one")
	flags.StringVar(&config.Hubd, "hubd", "", "the hub's program; empty: the one beside this, with go run the one of the source tree, else that in the PATH")
	flags.StringVar(&config.Influxd, "influxd", "", `InfluxDB's program; empty: it is looked for; "none": the embedded store`)
	flags.StringVar(&config.Dir, "dir", "", "empty folder for everything, which stays; empty: a temporary one, which stays when a promise is broken")
	flags.StringSliceVar(&config.Only, "only", nil, "these faults alone")
	flags.StringSliceVar(&config.Without, "without", nil, "not these faults")
	flags.BoolVarP(&quiet, "quiet", "q", false, "say nothing before the verdict")
	out.add(cmd)
	return cmd
}
