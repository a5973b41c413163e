package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Client is one device. Make it with New.
type Client struct {
	// Set once.
	cfg            Config
	id             string
	log            *slog.Logger
	tls            *tls.Config // nil for ws://
	store          CredentialStore
	describe       *devicev1.Describe
	describeDigest [sha256.Size]byte
	bootID         [device.BootIDBytes]byte
	executor       *executor
	wake           chan struct{} // to the writer
	running        atomic.Bool

	// Of the goroutine of Run.
	credentials Credentials
	refusedNext device.Credential // the hub did not accept it
	backoff     backoff

	mu          sync.Mutex
	clock       clock
	batch       *batch      // open; nil: no rows
	ageTimer    *time.Timer // ends the open batch
	overdue     bool        // the open batch wants to be sealed, but the spool is full
	undated     undated
	fields      fieldSet
	lastPos     uint64        // of the newest frame appended to the spool
	progressed  chan struct{} // closed on progress; nil: nobody waits
	window      window
	pausedUntil time.Time
	session     *session // online; nil: none
	draining    bool     // Run's context has ended
	closed      bool     // Publish takes nothing more
	ended       bool     // Run has returned
	stats       Stats
}

// New makes a Client. It reads the credentials and the journal, and opens no
// connection.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, log: cfg.Logger, store: cfg.Credentials, wake: make(chan struct{}, 1)}
	c.credentials = Credentials{Current: cfg.Credential}
	if c.store != nil {
		if c.credentials, err = c.store.Load(); err != nil {
			return nil, fmt.Errorf("client: load credentials: %w", err)
		}
	}
	if err := checkCredentials(c.credentials); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.id = c.credentials.Current.ID
	if c.tls, err = cfg.tlsConfig(); err != nil {
		return nil, err
	}
	if err := c.setDescribe(); err != nil {
		return nil, err
	}
	_, _ = rand.Read(c.bootID[:]) // it never fails
	c.backoff = backoff{min: cfg.BackoffMin, max: cfg.BackoffMax}
	c.clock = clock{wall: cfg.Clock, unreliable: cfg.ClockUnreliable, start: time.Now()}
	c.window.first = 1
	c.stats.RowsRecovered = uint64(cfg.Spool.Stats().Rows)
	c.stats.Generation = c.credentials.Current.Generation
	c.executor, err = newExecutor(c)
	if err != nil {
		return nil, err
	}
	c.ageTimer = time.AfterFunc(time.Hour, c.sealAged)
	c.ageTimer.Stop()
	return c, nil
}

func checkCredentials(c Credentials) error {
	if err := device.CheckID(c.Current.ID); err != nil {
		return err
	}
	if c.Current.Generation == 0 || c.Next != nil && (c.Next.ID != c.Current.ID || c.Next.Generation == 0) {
		return device.ErrBadCredential
	}
	return nil
}

func (c *Client) setDescribe() error {
	if c.cfg.Describe == nil {
		return nil
	}
	c.describe = c.cfg.Describe
	if c.describe.Firmware == "" && c.cfg.Firmware != "" {
		c.describe = proto.CloneOf(c.describe)
		c.describe.Firmware = c.cfg.Firmware
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.describe)
	if err != nil {
		return fmt.Errorf("client config: Describe: %w", err)
	}
	if len(data) > MaxFrameBytes/2 {
		return fmt.Errorf("client config: Describe: %d bytes; at most %d", len(data), MaxFrameBytes/2)
	}
	c.describeDigest = sha256.Sum256(data)
	return nil
}

// DeviceID is the id in the credential.
func (c *Client) DeviceID() string { return c.id }

// BootID names the sequence that the seqs of this Client count in.
func (c *Client) BootID() [device.BootIDBytes]byte { return c.bootID }

// Close releases a Client that was never run. After Run it does nothing.
func (c *Client) Close() error {
	if c.running.Swap(true) {
		return nil
	}
	return c.end(nil)
}

var errRunTwice = errors.New("client: Run was called before")

// Run connects, and stays connected, until ctx ends or the hub refuses the
// device for good. It returns nil after ctx has ended, or an error that wraps
// ErrUnauthorized, ErrDisabled, ErrUnsupportedVersion or ErrRefused.
//
// When ctx ends Publish takes nothing more, running commands are canceled,
// and the open batch goes to the spool. While there is a connection, or rows
// that would end with the process, Run goes on for up to FlushTimeout until
// the hub has acknowledged everything; then it closes with code 1000.
func (c *Client) Run(ctx context.Context) error {
	if c.running.Swap(true) {
		return errRunTwice
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	drained := make(chan struct{})
	stopDrain := context.AfterFunc(ctx, func() {
		defer close(drained)
		c.drain(cancel)
	})
	err := c.runSessions(ctx, work)
	if !stopDrain() {
		<-drained
		err = nil // it ended because ctx did
	}
	return c.end(err)
}

// drain begins the end: it gives the sessions FlushTimeout.
func (c *Client) drain(cancel context.CancelFunc) {
	c.mu.Lock()
	c.closed, c.draining = true, true
	if err := c.seal(); err != nil {
		c.log.Warn("readings of the open batch wait for room in the spool", "device", c.id, "error", err)
	}
	c.progress()
	offline := c.session == nil
	c.mu.Unlock()
	c.executor.shutdown()
	if c.cfg.FlushTimeout < 0 || offline && !c.worthWaiting() {
		cancel()
	} else {
		time.AfterFunc(c.cfg.FlushTimeout, cancel) // where Run has returned, it does nothing
	}
	c.wakeWriter()
}

// drained reports whether nothing is left to be sent or answered.
func (c *Client) drained() bool {
	return c.draining && c.batch == nil && len(c.undated.rows) == 0 && c.cfg.Spool.Stats().Frames == 0 && c.executor.settled()
}

// worthWaiting reports whether a draining client without a connection should
// try for one.
func (c *Client) worthWaiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := c.batch != nil || len(c.undated.rows) > 0
	if !c.cfg.Spool.Durable() {
		lost = lost || c.cfg.Spool.Stats().Frames > 0
	}
	return !c.draining || lost
}

// end closes what Run or New opened.
func (c *Client) end(err error) error {
	c.executor.shutdown()
	c.executor.wait(max(c.cfg.FlushTimeout, time.Second))
	c.mu.Lock()
	c.closed = true
	if len(c.undated.rows) > 0 {
		c.log.Error("readings are lost: they had no time yet", "device", c.id, "rows", len(c.undated.rows))
		c.drop(len(c.undated.rows))
		for len(c.undated.rows) > 0 {
			c.undated.pop()
		}
	}
	sealErr := c.seal()
	if sealErr != nil {
		c.log.Error("readings are lost: the spool does not take them", "device", c.id, "rows", c.batch.rows, "error", sealErr)
		c.drop(c.batch.rows)
		c.batch.release()
		c.batch = nil
	}
	c.ageTimer.Stop()
	c.ended = true
	syncErr := c.cfg.Spool.Sync()
	c.progress()
	c.mu.Unlock()
	c.setState(Stopped, err)
	return errors.Join(err, sealErr, syncErr, c.executor.close())
}

func (c *Client) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
