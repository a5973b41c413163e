package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// storeTimeout is how long the demo waits for the last acknowledged rows to
// reach the store.
const storeTimeout = 30 * time.Second

type demo struct {
	devices  int
	duration time.Duration
	listen   string
	data     string

	out     io.Writer
	hub     *hub.Hub
	token   string
	address string // of the API, https://host:port
	roots   *x509.CertPool
	client  *http.Client
	before  map[string]uint64 // rows of each device, from an earlier run
}

func demoCommand() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a hub with the embedded store and a simulated fleet, in one process",
		Long: `Run a hub with the embedded store and a simulated fleet, in one process, until
Ctrl-C, or for the time given by --for. Beside the fleet a Tasmota plug and a
Sparkplug node speak MQTT, over the embedded broker. At the end a summary
compares what the devices and the gear have had acknowledged with what is
stored; the exit status is 0 if every row is there.

Without --data the state is thrown away at the end.`,
		Example: "  hubd demo\n  hubd demo --devices 500 --for 1m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&d.devices, "devices", 25, "simulated devices")
	cmd.Flags().DurationVar(&d.duration, "for", 0, "end by itself after this time; 0: at Ctrl-C")
	cmd.Flags().StringVar(&d.listen, "listen", "127.0.0.1:8443", "address for devices and operators; port 0: any free one")
	cmd.Flags().StringVar(&d.data, "data", "", "folder of the hub's state, kept; empty: a temporary one, removed")
	return cmd
}

func (d *demo) run(ctx context.Context, logs io.Writer) (err error) {
	if d.data == "" {
		if d.data, err = os.MkdirTemp("", "tetherline-demo-"); err != nil {
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.data)) }()
	}
	config := hub.DefaultConfig()
	config.Data, config.Listen, config.LogLevel = d.data, d.listen, "warn"
	if err := d.bridge(&config); err != nil {
		return err
	}
	if d.hub, err = hub.New(ctx, config, hub.Options{Version: buildVersion(), Logger: hub.NewLogger(config, logs)}); err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.hub.Run(serving) }()
	err = d.fleet(ctx, ended)
	stop()
	return errors.Join(err, <-ended)
}

// fleet runs the devices for the time that was asked for and checks the end.
func (d *demo) fleet(ctx context.Context, ended chan error) error {
	if err := d.signIn(); err != nil {
		return err
	}
	journals := filepath.Join(d.data, "devices")
	if err := os.MkdirAll(journals, 0o700); err != nil {
		return fmt.Errorf("make a folder for the devices: %w", err)
	}
	fleet, err := firmwaresim.NewFleet(ctx, firmwaresim.FleetConfig{
		Hub: d.address, Token: d.token, RootCAs: d.roots,
		Devices: d.devices, Prefix: "demo", Seed: 1, BadLinks: 0.1, DeadClocks: 0.1,
		Journals: journals,
	})
	if err != nil {
		return err
	}
	if d.before, err = d.count(ctx, append(gearIDs(), fleet.IDs()...)); err != nil {
		return fmt.Errorf("look into the store: %w", err)
	}
	if err := d.awaitBridge(ctx); err != nil {
		return err
	}
	d.introduce(fleet.IDs()[0])
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.duration > 0 {
		work, cancel = context.WithTimeout(ctx, d.duration)
		defer cancel()
	}
	done := make(chan firmwaresim.Summary, 1)
	go func() { done <- fleet.Run(work) }()
	gear := d.runGear(work)
	select {
	case err := <-ended:
		cancel()
		<-done
		<-gear
		ended <- nil
		return fmt.Errorf("the hub has ended: %w", err)
	case summary := <-done:
		cancel()
		return d.conclude(summary, fleet, <-gear)
	}
}

// signIn reads the token and the CA that the hub has just made.
func (d *demo) signIn() error {
	token, err := os.ReadFile(d.hub.AdminTokenFile())
	if err != nil {
		return fmt.Errorf("read the admin token: %w", err)
	}
	ca, err := os.ReadFile(d.hub.CAFile())
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	d.token, d.roots = strings.TrimSpace(string(token)), roots
	d.address = "https://" + d.hub.AddrOperators().(*net.TCPAddr).String()
	d.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2: true,
	}}
	return nil
}

func (d *demo) introduce(first string) {
	hubctl := fmt.Sprintf("go run ./cmd/hubctl --data %s --hub %s", d.data, d.address)
	_, _ = fmt.Fprintf(d.out, `
Tetherline is running at %s with %d simulated devices,
and a Tasmota plug and a Sparkplug node that speak MQTT at ssl://%s.
Operator token: %s
The state is in %s.

Try, in another terminal:

  %s device ls
  %s telemetry watch %s
  %s command send %s set-relay --arg on=true --wait
  %s command send workshop-plug power --arg state=off --wait

`, d.address, d.devices, d.hub.AddrMQTT(), d.token, d.data, hubctl, hubctl, first, hubctl, first, hubctl)
}

// conclude waits until the store has what was acknowledged, and tells.
func (d *demo) conclude(summary firmwaresim.Summary, fleet *firmwaresim.Fleet, gear gearDone) error {
	if gear.err != nil {
		return fmt.Errorf("simulated gear: %w", gear.err)
	}
	acked := fleet.Acked()
	readings, commands := gear.acked(acked)
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	stored, missing, err := d.compare(ctx, acked)
	if err != nil {
		return fmt.Errorf("compare with the store: %w", err)
	}
	_, _ = summary.WriteTo(d.out)
	_, _ = fmt.Fprintf(d.out, "readings of gear     %d (MQTT), %d commands obeyed\n", readings, commands)
	_, _ = fmt.Fprintf(d.out, "rows stored          %d\n\n", stored)
	if missing > 0 {
		return fmt.Errorf("%d acknowledged rows are not in the store", missing)
	}
	if readings == 0 {
		return errors.New("the gear has published nothing")
	}
	if summary.RowsPublished == 0 || summary.RowsLeft > 0 || summary.RowsDropped > 0 || summary.RowsRejected > 0 || summary.Refused > 0 {
		return errors.New("not every row that was published has been acknowledged; see the summary")
	}
	_, _ = fmt.Fprintln(d.out, "Every row that a device or a piece of gear published is acknowledged and stored.")
	return nil
}

// compare counts the rows of each device that were stored in this run, until
// none is missing or ctx ends.
func (d *demo) compare(ctx context.Context, acked map[string]uint64) (stored, missing uint64, err error) {
	ids := slices.Collect(maps.Keys(acked))
	for {
		now, err := d.count(ctx, ids)
		if err != nil {
			return stored, missing, err
		}
		stored, missing = 0, 0
		for id, want := range acked {
			got := now[id] - d.before[id]
			stored += got
			if got < want {
				missing += want - got
			}
		}
		if missing == 0 {
			return stored, 0, nil
		}
		select {
		case <-ctx.Done():
			return stored, missing, nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// count is the stored rows of each device.
func (d *demo) count(ctx context.Context, ids []string) (map[string]uint64, error) {
	api := operatorv1connect.NewTelemetryServiceClient(d.client, d.address)
	rows := make(map[string]uint64, len(ids))
	for _, id := range ids {
		request := connect.NewRequest(&operatorv1.CountRequest{DeviceId: id, Measurement: gearMeasurement(id)})
		request.Header().Set("Authorization", "Bearer "+d.token)
		answer, err := api.Count(ctx, request)
		if err != nil {
			return nil, err
		}
		rows[id] = answer.Msg.Rows
	}
	return rows, nil
}
