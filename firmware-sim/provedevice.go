package firmwaresim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	credential "github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
)

// The fields of a row of a proof.
const (
	fieldNumber   = "n" // device and number of the row
	fieldValue    = "v" // made of the number
	fieldConflict = "c" // a number on the first device, text on sick ones
	fieldBallast  = "ballast"
	fieldStubborn = "stubborn" // of one row, that the store never takes
)

// provenDevice is a simulated device with a ledger.
type provenDevice struct {
	// Set once.
	index     int
	id        string
	link      *faultyLink
	sim       *device
	spool     *ledgerSpool
	file      *client.FileSpool // nil: the spool is in memory
	ledger    *rowLedger
	forgetful bool // gives up its oldest rows where its spool is full
	ballast   *atomic.Int32

	skew     atomic.Int64  // of its clock, in ns
	stubborn atomic.Bool   // the next row is the one with fieldStubborn
	sick     atomic.Int32  // rows to be sent with text in fieldConflict
	online   atomic.Bool   // its hub has proved itself
	left     atomic.Int64  // Unix ns: when it was last no longer so
	refused  atomic.Int64  // Unix ns: when it was last told that it is disabled
	shut     atomic.Int64  // Unix ns: when a live connection was last closed with that
	enabled  chan struct{} // it may come back after it was disabled
}

func (r *proof) newDevice(i int, id, hubURL string, c credential.Credential, secure *tls.Config) (*provenDevice, error) {
	d := &provenDevice{
		index: i, id: id, link: r.links[i%len(r.links)], ledger: &rowLedger{doubting: &r.doubting, acking: r.acking},
		forgetful: i%forgetfulOneIn == forgetfulOneIn-1, ballast: &r.ballast, enabled: make(chan struct{}, 1),
	}
	config := client.Config{
		URL: hubURL, Credentials: client.NewMemoryStore(c), TLSConfig: secure, NetDialContext: dialThrough(d.link),
		DialTimeout: 5 * time.Second, MaxBatchAge: 300 * time.Millisecond,
		JournalPath: filepath.Join(r.dir, "devices", id+".journal"),
		BackoffMin:  50 * time.Millisecond, BackoffMax: 2 * time.Second, FlushTimeout: time.Second,
		Clock:         func() time.Time { return time.Now().Add(time.Duration(d.skew.Load())) },
		OnStateChange: d.changed,
		OnReject:      func(x client.Rejection) { r.judgeRejection(d, x, time.Now()) },
	}
	inner := client.Spool(client.NewMemorySpool(forgetfulSpool))
	if d.forgetful {
		config.Full, config.MaxBatchBytes = client.DropOldest, 4<<10
	} else {
		// A crash of the process is not what is tried here: no fsync.
		file, err := client.OpenFileSpool(filepath.Join(r.dir, "devices", id+".spool"),
			client.FileSpoolOptions{MaxBytes: patientSpool, SyncInterval: -1})
		if err != nil {
			return nil, err
		}
		d.file, inner = file, file
	}
	d.spool = &ledgerSpool{Spool: inner, ledger: d.ledger, device: i, broken: func(err error) { r.find(theRun, "%s: %v", id, err) }}
	config.Spool = d.spool
	var err error
	d.sim, err = newDevice(DeviceConfig{
		Model: models[i%len(models)].name, Seed: r.cfg.Seed + uint64(i), Client: config,
		OnCommand: func(_, command, _ string) { r.orders.ran(i, command) },
		OnResult:  func(_, command string, err error) { r.orders.ended(i, command, err) },
	}, r.tally)
	return d, err
}

func dialThrough(l *faultyLink) dialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.addr())
	}
}

// changed follows the state of the SDK.
func (d *provenDevice) changed(s client.State, why error) {
	now, lost := time.Now().UnixNano(), d.online.Swap(s == client.Online) && s != client.Online
	if lost {
		d.left.Store(now)
	}
	if errors.Is(why, client.ErrDisabled) {
		d.refused.Store(now)
		if lost {
			d.shut.Store(now)
		}
	}
}

// run holds the device's sessions until ctx ends. It returns what the hub has
// refused it for, other than being disabled for a while.
func (d *provenDevice) run(ctx context.Context) error {
	for {
		err := d.sim.runBoots(ctx)
		if ctx.Err() != nil || err == nil {
			return nil
		}
		if !errors.Is(err, client.ErrDisabled) {
			return fmt.Errorf("%s gave up: %w", d.id, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.enabled:
		}
		if err := d.sim.boot(); err != nil {
			return fmt.Errorf("%s: start again: %w", d.id, err)
		}
	}
}

// publish takes a row every period until ctx ends, the first one after a
// random part of it.
func (d *provenDevice) publish(ctx context.Context, period time.Duration) error {
	rng := rand.New(rand.NewPCG(uint64(d.index), uint64(period)))
	next := time.Now().Add(time.Duration(rng.Float64() * float64(period)))
	for sleep(ctx, time.Until(next)) {
		next = next.Add(period)
		if late := time.Since(next); late > 5*time.Second {
			next = next.Add(late) // it waited for room: those rows were never measured
		}
		row, poison := d.measure()
		for {
			err := d.sim.client().Publish(ctx, row)
			if err == nil {
				d.ledger.published(poison)
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, client.ErrClosed) {
				return fmt.Errorf("%s: %w", d.id, err)
			}
			if !sleep(ctx, 20*time.Millisecond) { // it starts again
				return nil
			}
		}
	}
	return nil
}

func (d *provenDevice) measure() (row client.Row, poison bool) {
	n := d.ledger.number()
	row.Fields = []client.Field{client.Int(fieldNumber, numberOf(d.index, n)), client.Double(fieldValue, valueOf(d.index, n))}
	if d.index == 0 {
		row.Fields = append(row.Fields, client.Double(fieldConflict, 0.5))
	} else if d.sick.Load() > 0 {
		d.sick.Add(-1)
		row.Fields = append(row.Fields, client.String(fieldConflict, "half"))
		poison = true
	}
	if d.stubborn.CompareAndSwap(true, false) {
		row.Fields = append(row.Fields, client.String(fieldStubborn, "yes"))
		poison = true
		d.ledger.stubbornIs(n)
	}
	if size := d.ballast.Load(); size > 0 {
		row.Fields = append(row.Fields, client.String(fieldBallast, strings.Repeat("x", int(size))))
	}
	return row, poison
}

// settled reports whether no row waits any more.
func (d *provenDevice) settled() bool {
	st := d.sim.stats()
	return st.Spool.Frames == 0 && st.RowsOpen == 0
}

func (d *provenDevice) close() {
	if d.file != nil {
		_ = d.file.Close()
	}
}

// enrolDevices creates the fleet at the hub, and the two that strangers
// pretend to be.
func (r *proof) enrolDevices(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(r.dir, "devices"), 0o700); err != nil {
		return err
	}
	ids := make([]string, r.cfg.Devices)
	for i := range ids {
		ids[i] = fmt.Sprintf("proof-%05d", i)
	}
	given, err := enrol(ctx, &FleetConfig{Hub: r.hub.url(), Token: r.hub.token, RootCAs: r.hub.roots}, append(ids, strangerID))
	if err != nil {
		return err
	}
	r.stranger = given.credentials[strangerID]
	r.hubURL = given.hubURL
	secure := secureConfig(given.roots, r.cfg.Devices)
	for i, id := range ids {
		d, err := r.newDevice(i, id, given.hubURL, given.credentials[id], secure)
		if err != nil {
			return fmt.Errorf("device %s: %w", id, err)
		}
		r.devices = append(r.devices, d)
	}
	return nil
}

func secureConfig(roots *x509.CertPool, sessions int) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1", RootCAs: roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
	}
}
