package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// importBatch is how many devices the API takes in one call.
const importBatch = 1000

func (a *app) deviceImport() *cobra.Command {
	var outDir string
	cmd := &cobra.Command{
		Use:   "import FILE.csv|FILE.json",
		Short: "Create many devices from a file",
		Long: `Create many devices from a file.

A CSV file has a header with the column id, and any of note, allow_unbound and
label:KEY. A JSON file is an array of objects with id, and any of labels (an
object), note and allow_unbound.

With --out-dir the credential of each new device goes into DIR/ID.json, mode
0600. Without it the credentials are part of the answer, this once.

An import that was interrupted is run again as it was: devices that exist are
reported as such and left as they are. The exit code is 6 when some devices
could not be created.`,
		Example: "  hubctl device import fleet.csv --out-dir credentials\n  hubctl device import fleet.json -o csv > credentials.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			devices, err := readImport(args[0])
			if err != nil {
				return usageError{err}
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			if outDir != "" {
				if err := os.MkdirAll(outDir, 0o700); err != nil {
					return err
				}
			}
			run := &importRun{app: a, api: api, outDir: outDir, bar: newProgress(a.stderr, "import", len(devices))}
			err = run.all(cmd.Context(), devices)
			run.bar.finish()
			report := run.report()
			if err != nil {
				return err
			}
			return report
		},
	}
	cmd.Flags().StringVar(&outDir, "out-dir", "", "folder for a credential file of each new device")
	return cmd
}

// What became of a device of the import.
const (
	importCreated = "created"
	importExists  = "exists"
	importFailed  = "failed"
	importUnknown = "unknown"
)

type importResult struct {
	id, status, detail string
	credential         string // only without an out-dir
}

type importRun struct {
	*app
	api     *connection.Clients
	outDir  string
	bar     *progress
	results []importResult
	hubURL  string
}

func (r *importRun) add(id, status, detail string) {
	r.results = append(r.results, importResult{id: id, status: status, detail: detail})
	r.bar.add(1)
}

// all creates what does not exist yet, a call for each batch. It goes on
// after failures of single devices, and ends at one of a whole call.
func (r *importRun) all(ctx context.Context, devices []*operatorv1.NewDevice) error {
	existing, err := r.existing(ctx, devices)
	if err != nil {
		return err
	}
	var fresh []*operatorv1.NewDevice
	for _, d := range devices {
		switch {
		case existing[d.Id] && r.outDir != "" && !r.haveFile(d.Id):
			r.add(d.Id, importExists, "and "+r.path(d.Id)+" does not: 'hubctl device rotate' makes a new credential")
		case existing[d.Id]:
			r.add(d.Id, importExists, "")
		case r.outDir != "" && r.haveFile(d.Id):
			r.add(d.Id, importFailed, r.path(d.Id)+" is in the way, but the hub does not know the device")
		default:
			fresh = append(fresh, d)
		}
	}
	for len(fresh) > 0 {
		batch := fresh[:min(len(fresh), importBatch)]
		fresh = fresh[len(batch):]
		if err := r.batch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// existing finds which of the devices the hub has: one by one for a few,
// else by the list of all.
func (r *importRun) existing(ctx context.Context, devices []*operatorv1.NewDevice) (map[string]bool, error) {
	existing := map[string]bool{}
	if len(devices) <= 20 {
		for _, d := range devices {
			_, err := call(ctx, r.app, r.api.Devices.GetDevice, &operatorv1.GetDeviceRequest{Id: d.Id})
			if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
				return nil, err
			}
			existing[d.Id] = err == nil
		}
		return existing, nil
	}
	var total uint32
	known, err := r.devices(ctx, &operatorv1.ListDevicesRequest{}, 0, &total)
	if err != nil {
		return nil, err
	}
	for d, err := range known {
		if err != nil {
			return nil, err
		}
		existing[d.Id] = true
	}
	return existing, nil
}

func (r *importRun) batch(ctx context.Context, batch []*operatorv1.NewDevice) error {
	files := make([]*secretFile, len(batch))
	defer func() {
		for _, f := range files {
			f.discard()
		}
	}()
	if r.outDir != "" {
		for i, d := range batch {
			f, err := reserveFile(r.path(d.Id), false)
			if err != nil {
				return err
			}
			files[i] = f
		}
	}
	res, err := call(ctx, r.app, r.api.Devices.CreateDevices, &operatorv1.CreateDevicesRequest{Devices: batch})
	if err == nil && len(res.Outcomes) != len(batch) {
		err = fmt.Errorf("the hub answered %d outcomes for %d devices", len(res.Outcomes), len(batch))
	}
	if err != nil {
		for _, d := range batch {
			r.add(d.Id, importUnknown, "the call ended without an answer; run the import again")
		}
		return err
	}
	r.hubURL = res.HubUrl
	for i, o := range res.Outcomes {
		id := batch[i].Id
		switch {
		case o.Id != id:
			r.add(id, importUnknown, "the hub answered for another device")
		case o.Credential == "":
			r.add(id, importFailed, o.Error)
		case files[i] == nil:
			r.results = append(r.results, importResult{id: id, status: importCreated, credential: o.Credential})
			r.bar.add(1)
		default:
			if err := files[i].commit(deviceFile{HubURL: res.HubUrl, DeviceID: id, Credential: o.Credential, CAPEM: res.CaPem}); err != nil {
				r.add(id, importFailed, fmt.Sprintf("created, but its credential could not be written (%s): 'hubctl device rotate' makes another", err))
				continue
			}
			r.add(id, importCreated, "")
		}
	}
	return nil
}

func (r *importRun) path(id string) string { return filepath.Join(r.outDir, id+".json") }

func (r *importRun) haveFile(id string) bool {
	_, err := os.Lstat(r.path(id))
	return !errors.Is(err, fs.ErrNotExist)
}
