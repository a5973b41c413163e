package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

func loadCommand() *cobra.Command {
	var (
		config firmwaresim.LoadConfig
		own    firmwaresim.OwnHub
		start  bool
		ca     string
		out    output
	)
	cmd := &cobra.Command{
		Use:   "load {--start | --hub URL --token T --ca FILE} --devices N --rate R --for D",
		Short: "Measure what a hub takes: values a second, acknowledgements, CPU, memory",
		Long: `Enrol N devices at a hub, connect them, have them send frames of one shape for
the time given by --for, wait until all is acknowledged and stored, and report.

With --start the hub is one of the load's own, another process in a temporary
folder, with an InfluxDB 1.8 as another one (--influxd, the environment's
TETHERLINE_INFLUXD, the PATH, the cache of "make test"; none is found: the
embedded store), or with one that is there already (--influx-url,
--influx-bucket, TETHERLINE_INFLUX_TOKEN). In the end it is killed and started
again: the report says how fast all devices are back.

With --rate the loop is open: every frame has a time at which it is due, and
its acknowledgement is counted from then on, so that a hub that stalls cannot
hide it. With --think each device sends a frame so long after the
acknowledgement of the one before. With neither each device sends as fast as the
hub's window allows. With --idle the devices hold still, after --frames frames
each. With --storm all connections are cut at once, halfway: the report says how
fast all came back. It also says so where the hub was restarted meanwhile.

The CPU time and the resident memory of the hub's process are reported for a hub
of the load's own, and with --hub-pid for one on the same machine (Linux).
Memory is read after the hub was told to collect its garbage (SIGUSR1), with no
device connected and with all of them. A hub that is not the load's own refuses
a device that sends more than its limits: for --rate 0 start it with
--device-frames 1e6 --device-bytes 1e9. Devices of an earlier load get a new
credential.`,
		Example: `  firmware-sim load --hub https://127.0.0.1:8443 --token @hub-data/admin.token --ca hub-data/ca.pem \
    --devices 200 --rate 20000 --rows-per-frame 10 --for 30s --hub-pid $(pidof hubd)
  firmware-sim load --devices 15000 --idle --for 10s --hub-pid $(pidof hubd) -o json
  firmware-sim load --start --devices 200 --rows-per-frame 10 --for 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := out.check(); err != nil {
				return err
			}
			if err := notZero(cmd, "devices", "rows-per-frame", "fields-per-row", "for"); err != nil {
				return err
			}
			if config.Idle && cmd.Flags().Changed("rate") {
				return errors.New("devices that hold still have no rate: leave out --rate or --idle")
			}
			config.WaitUntilStored = true
			config.Progress = func(what string, done, of int) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s %d of %d devices\n", what, done, of)
			}
			if start {
				for _, name := range []string{"hub", "token", "ca", "hub-pid"} {
					if cmd.Flags().Changed(name) {
						return fmt.Errorf("--start starts a hub: leave out --%s", name)
					}
				}
				own.InfluxToken = os.Getenv("TETHERLINE_INFLUX_TOKEN")
				config.Hub, config.Own = "", &own
				return report(cmd, config, &out)
			}
			for _, name := range []string{"hubd", "influxd", "influx-url", "influx-org", "influx-bucket", "dir"} {
				if cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for a hub that the load starts: say --start", name)
				}
			}
			if config.Token, err = readToken(config.Token); err != nil {
				return err
			}
			if config.RootCAs, err = readRoots(cmp.Or(ca, os.Getenv("TETHERLINE_CA"))); err != nil {
				return err
			}
			return report(cmd, config, &out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Hub, "hub", cmp.Or(os.Getenv("TETHERLINE_HUB"), "https://127.0.0.1:8443"), "URL of the hub's operator API")
	flags.StringVar(&config.Token, "token", "", "operator's token, or @file that holds it; empty: TETHERLINE_TOKEN")
	flags.StringVar(&ca, "ca", "", "CA of the hub, PEM; empty: TETHERLINE_CA, then the system's roots")
	flags.BoolVar(&start, "start", false, "a hub of the load's own, as another process")
	flags.StringVar(&own.Hubd, "hubd", "", "with --start: the hub's program; empty: the one beside this, with go run the one of the source tree, else that in the PATH")
	flags.StringVar(&own.Influxd, "influxd", "", `with --start: InfluxDB's program; empty: it is looked for; "none": the embedded store`)
	flags.StringVar(&own.InfluxURL, "influx-url", "", "with --start: an InfluxDB that is there already")
	flags.StringVar(&own.InfluxOrg, "influx-org", "", "organisation in --influx-url")
	flags.StringVar(&own.InfluxBucket, "influx-bucket", "", "bucket in --influx-url; database/retention-policy for 1.8")
	flags.StringVar(&own.Dir, "dir", "", "with --start: empty folder for everything, which stays; empty: a temporary one, which goes")
	flags.StringVar(&config.Prefix, "prefix", "load", "of the device ids")
	flags.IntVar(&config.Devices, "devices", 100, "how many, to 100000")
	flags.Float64Var(&config.Rate, "rate", 0, "rows a second of all devices together, to 5e6; 0: as fast as windows allow")
	flags.DurationVar(&config.Think, "think", 0, "without --rate: what a device waits between an acknowledgement and its next frame")
	flags.IntVar(&config.RowsPerFrame, "rows-per-frame", 1, "1 to 1000")
	flags.IntVar(&config.FieldsPerRow, "fields-per-row", 10, "1 to 256")
	flags.DurationVar(&config.Ramp, "ramp", 0, "time in which the devices connect; 0: as fast as the hub takes them")
	flags.DurationVar(&config.For, "for", 10*time.Second, "how long they send or hold still, to 1h")
	flags.BoolVar(&config.Idle, "idle", false, "hold still")
	flags.BoolVar(&config.Storm, "storm", false, "cut every connection at once, halfway, and see how fast all are back")
	flags.DurationVar(&config.Pause, "pause", 0, "longest time before a device tries to connect again; 0: 5s, in a storm and with --start 100ms")
	flags.IntVar(&config.FramesAtFirst, "frames", 0, "that each device sends before it holds still")
	flags.IntVar(&config.HubPID, "hub-pid", 0, "process id of the hub on this machine; 0: do not look")
	out.add(cmd)
	return cmd
}

// report runs a load and says what it has measured, as far as it came.
func report(cmd *cobra.Command, config firmwaresim.LoadConfig, out *output) error {
	summary, err := firmwaresim.Load(cmd.Context(), config)
	if summary.Devices == 0 {
		return err
	}
	return errors.Join(err, out.write(cmd.OutOrStdout(), summary))
}
