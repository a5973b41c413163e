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
		config       firmwaresim.ProveConfig
		out          output
		quiet        bool
		allowUntried bool
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
    end than in the beginning, and keeps nothing of a frame or of a session

Readings are compared one by one, by number, time and value, through the
operator API; the ledger of a device takes 3 bits a reading. The books must add
up: rows generated = stored + in quarantine + rejected + dropped and counted by
their device + still in its spool, and InfluxDB itself must count as many as the
hub hands out.

The exit status:

  0    each of the ten promises was tried, and held; the last line names each
       fault that met nothing all the same, and so does -o json
       (faults_met_nothing)
  1    a promise is broken, or nothing could be run: the message says which
  6    nothing was found broken, and not every promise was tried: the verdict
       says which, why, and what to run; --allow-untried makes this 0
  130  interrupted: nothing was compared; the verdict says what was found so far

A run of 30 s and more goes on, for some three minutes at most, until each fault that
is possible here has happened and each promise was tried; a shorter one says
what it had no time for. It names the tests of what cannot be judged from
outside.

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
			if err := notZero(cmd, "for", "devices", "rate", "commands"); err != nil {
				return err
			}
			if !quiet {
				config.Progress = func(line string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), line) }
			}
			verdict, err := firmwaresim.Prove(cmd.Context(), config)
			if verdict.Outcome == "" {
				return err
			}
			return errors.Join(out.write(cmd.OutOrStdout(), verdict), judged(verdict, allowUntried))
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&config.For, "for", 2*time.Minute, "how long things break, 10s to 48h")
	flags.IntVar(&config.Devices, "devices", 200, "how many, 5 to 5000")
	flags.Float64Var(&config.Rate, "rate", 1000, "rows a second of all devices together")
	flags.Float64Var(&config.Commands, "commands", 5, "commands a second to all devices together, 0.1 to 500")
	flags.Uint64Var(&config.Seed, "seed", 0, "of the schedule; 0: a new one")
	flags.StringVar(&config.Hubd, "hubd", "", "the hub's program; empty: the one beside this, with go run the one of the source tree, else that in the PATH")
	flags.StringVar(&config.Influxd, "influxd", "", `InfluxDB's program; empty: it is looked for; "none": the embedded store`)
	flags.StringVar(&config.Dir, "dir", "", "empty folder for everything, which stays; empty: a temporary one, which stays when a promise is broken")
	flags.StringSliceVar(&config.Only, "only", nil, "these faults alone")
	flags.StringSliceVar(&config.Without, "without", nil, "not these faults; with it no --only")
	flags.BoolVar(&allowUntried, "allow-untried", false, "exit status 0, too, where not every promise was tried, and those that were held")
	flags.BoolVarP(&quiet, "quiet", "q", false, "say nothing before the verdict")
	out.add(cmd)
	return cmd
}

// judged is the verdict as an error, which has its exit status; nil: 0.
func judged(v firmwaresim.Verdict, allowUntried bool) error {
	switch {
	case v.Outcome == firmwaresim.OutcomeHeld, v.Outcome == firmwaresim.OutcomeIncomplete && allowUntried:
		return nil
	case v.Outcome == firmwaresim.OutcomeIncomplete:
		return exitError{exitPartial, fmt.Errorf("not proven: %d of the ten promises were not tried: see the verdict (--allow-untried takes that for a success)", len(v.Untried))}
	case v.Outcome == firmwaresim.OutcomeInterrupted:
		return firmwaresim.ErrInterrupted
	}
	return errors.New("a promise is broken: see the verdict")
}
