package main

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

func gearCommand() *cobra.Command {
	var (
		config   firmwaresim.GearConfig
		ca       string
		duration time.Duration
		out      output
		verbose  bool
	)
	cmd := &cobra.Command{
		Use:   "gear --broker URL --kind KIND",
		Short: "Simulate legacy MQTT gear: plugs, sensors and edge nodes as they are sold",
		Long: `Simulate legacy gear on an MQTT broker, until Ctrl-C or for the time given by
--for: with the topics, payloads, last wills and answers of the real thing. The
kinds are ` + strings.Join(firmwaresim.GearKinds(), ", ") + `.

At the end a summary tells what the broker has acknowledged and which commands
were obeyed. Lost connections are made again.`,
		Example: `  firmware-sim gear --broker tcp://127.0.0.1:1883 --kind tasmota
  firmware-sim gear --broker tcp://127.0.0.1:1883 --kind sparkplug --name plant/press --count 10 --interval 100ms --for 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := out.check(); err != nil {
				return err
			}
			if config.RootCAs, err = readRoots(ca); err != nil {
				return err
			}
			config.Password = cmp.Or(config.Password, os.Getenv("MQTT_PASSWORD"))
			config.Logger = logger(cmd.ErrOrStderr(), verbose)
			ctx := cmd.Context()
			if duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, duration)
				defer cancel()
			}
			summary, err := firmwaresim.RunGear(ctx, config)
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), summary)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Broker, "broker", "tcp://127.0.0.1:1883", "the broker: tcp://host:port or ssl://host:port")
	flags.StringVar(&config.Kind, "kind", "", "kind of gear")
	flags.StringVar(&config.Name, "name", "", "of the gear; of sparkplug group/node; empty: as the kind has it")
	flags.IntVar(&config.Count, "count", 1, "how many; several get a number behind the name")
	flags.DurationVar(&config.Interval, "interval", time.Second, "between readings, from 10ms")
	flags.Uint8Var(&config.QoS, "qos", 1, "of what the gear publishes, 0 or 1")
	flags.StringVar(&config.User, "user", "", "of the broker")
	flags.StringVar(&config.Password, "password", "", "of --user; empty: MQTT_PASSWORD")
	flags.StringVar(&ca, "ca", "", "CA of the broker, PEM; empty: the system's roots")
	flags.Uint64Var(&config.Seed, "seed", 1, "of the signals")
	flags.DurationVar(&duration, "for", 0, "end by itself after this time; 0: at Ctrl-C")
	flags.BoolVarP(&verbose, "verbose", "v", false, "log more")
	out.add(cmd)
	_ = cmd.MarkFlagRequired("kind")
	return cmd
}
