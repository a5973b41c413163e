package firmwaresim

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// loadMeter watches the hub of a load from outside: by its operator API, and
// where it runs on this machine by what the system knows of its process.
type loadMeter struct {
	pid       int
	hub       string
	token     string
	status    operatorv1connect.HubServiceClient
	transport *http.Transport
	collects  bool // the hub collects its garbage when it is asked to

	connecting   time.Duration
	before       hubRows
	rowsStored   uint64 // since then
	storedAt     time.Time
	atStart      processUse // before the devices connected
	atBegin      processUse
	atEnd        processUse
	atRest       processUse    // with all devices connected, after a collection
	selfBegin    time.Duration // CPU time of this process
	selfEnd      time.Duration
	begun, ended bool
	failed       bool
}

func newLoadMeter(ctx context.Context, cfg *LoadConfig) (*loadMeter, error) {
	m := &loadMeter{pid: cfg.HubPID, hub: cfg.Hub, token: cfg.Token}
	m.transport = &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
		ForceAttemptHTTP2: true,
	}
	m.status = operatorv1connect.NewHubServiceClient(&http.Client{Transport: m.transport}, cfg.Hub,
		connect.WithInterceptors(bearer(cfg.Token)))
	rows, err := m.rows(ctx)
	if err != nil {
		m.close()
		return nil, err
	}
	m.before = rows
	if m.pid != 0 {
		if m.atStart, err = m.first(ctx); err != nil {
			m.close()
			return nil, fmt.Errorf("the hub's process: %w", err)
		}
	}
	return m, nil
}

func (m *loadMeter) close() { m.transport.CloseIdleConnections() }

// hubRows is how many rows a hub has stored since it was started.
type hubRows struct {
	stored  uint64
	started time.Time
	empty   bool // nothing waits to be stored
}

func (m *loadMeter) rows(ctx context.Context) (hubRows, error) {
	answer, err := m.status.GetStatus(ctx, connect.NewRequest(&operatorv1.GetStatusRequest{}))
	if err != nil {
		return hubRows{}, fmt.Errorf("status of the hub: %w", err)
	}
	s := answer.Msg
	return hubRows{s.RowsStored + s.RowsQuarantined, s.Started.AsTime(), s.Ready && s.Buffer.GetChunks() == 0}, nil
}

func (m *loadMeter) connected(took time.Duration) { m.connecting = took }

// begin is called right before devices send.
func (m *loadMeter) begin() {
	m.selfBegin, m.begun = ownCPU(), true
	m.atBegin = m.use()
}

// finish is called when everything that counts is over, and the devices are
// still connected.
func (m *loadMeter) finish(ctx context.Context) {
	m.atEnd = m.use()
	m.selfEnd = ownCPU()
	if m.collects {
		m.failed = m.collect(ctx) != nil || m.failed
	}
	m.atRest = m.use()
	m.ended = true
}

// ownCPU is the CPU time of this process since devices began to send.
func (m *loadMeter) ownCPU() time.Duration {
	switch {
	case m.ended:
		return m.selfEnd - m.selfBegin
	case m.begun:
		return ownCPU() - m.selfBegin
	}
	return 0
}

func (m *loadMeter) use() processUse {
	if m.pid == 0 {
		return processUse{}
	}
	u, err := useOf(m.pid)
	m.failed = m.failed || err != nil
	return u
}

// stored waits until the hub has stored what it has acknowledged, for as long
// as that goes on: a hub may take several times what its store does. A hub that
// was started again counts anew: it has stored everything when nothing waits.
func (m *loadMeter) stored(ctx context.Context, r *loadRun) error {
	want := uint64(r.acked.Load()-r.rejected.Load()) * uint64(r.cfg.RowsPerFrame)
	deadline := time.Now().Add(loadDrainTimeout)
	for {
		now, err := m.rows(ctx)
		again := err == nil && !now.started.Equal(m.before.started)
		stored := m.rowsStored
		switch {
		case err != nil && time.Now().After(deadline):
			return err
		case again && now.empty:
			stored = want
		case again:
			stored = min(now.stored, want)
		case err == nil:
			stored = now.stored - m.before.stored
		}
		if stored != m.rowsStored {
			deadline = time.Now().Add(loadDrainTimeout)
		}
		m.rowsStored, m.storedAt = stored, time.Now()
		if stored >= want && (!again || now.empty) && err == nil {
			return nil
		}
		if m.storedAt.After(deadline) {
			return fmt.Errorf("%d of %d acknowledged rows are stored, and none in the last %v", stored, want, loadDrainTimeout)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}
