package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// FullPolicy is what Publish does when the spool is full.
type FullPolicy uint8

const (
	// Block waits until the hub has taken frames, or ctx ends.
	Block FullPolicy = iota
	// DropOldest gives up the oldest frame that the hub cannot have, counts its
	// rows in Stats, and reports the total to the hub. Only where every frame
	// of the spool was on its way it gives up the oldest of these, which may
	// be stored and counts as dropped: the count is never too low, and exact
	// where the spool holds more than the hub's window (512 KiB).
	DropOldest
)

// DefaultSpoolBytes is the size of the spool of a Client that is given none.
const DefaultSpoolBytes = 1 << 20

// Config of a Client. Many Clients may share every pointer, map and function
// in it; none of them changes what it is given.
type Config struct {
	// URL of the hub: wss://host[:port]/v1/device. The path may be left out.
	// ws:// is accepted for a loopback address with BindingNone only.
	URL string

	// Credential of the device. A rotation is not accepted, since it could
	// not be remembered. Give this or Credentials.
	Credential device.Credential
	// Credentials of the device, with a place for the next one.
	Credentials CredentialStore

	// RootCAs that the hub's certificate must come from; nil: TLSConfig's,
	// or the system's. Files carry them as PEM: see RootsFromPEM.
	RootCAs *x509.CertPool
	// TLSConfig is the base of the TLS configuration; nil: none. TLS 1.2 is
	// the least. Without a ClientSessionCache the client keeps its last TLS
	// session in memory and resumes it when it reconnects. A cache that many
	// devices share is no good: it holds one session for each host name.
	TLSConfig *tls.Config
	// BindingNone leaves out the channel binding of the proofs. The hub
	// refuses that unless the operator has allowed it: needed behind a proxy
	// that terminates TLS.
	BindingNone bool
	// NetDialContext opens the TCP connection; nil: net.Dialer.
	NetDialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout is for TCP, TLS and the upgrade together; 0: 20 s.
	DialTimeout time.Duration

	// Firmware is free text to 64 bytes.
	Firmware string
	// HeartbeatWish asks the hub to ping this often: 5 s to 30 min in whole
	// seconds; 0: the hub's default.
	HeartbeatWish time.Duration
	// Describe tells what the device measures and obeys; nil: nothing. Its
	// firmware is filled in from Firmware where it is empty.
	Describe *devicev1.Describe

	// MaxBatchRows is how many rows make a frame full: 1 to MaxFrameRows;
	// 0: 100.
	MaxBatchRows int
	// MaxBatchBytes is how many bytes do: 1 KiB to MaxFrameBytes; 0: 16 KiB.
	// A row that is larger has a frame of its own.
	MaxBatchBytes int
	// MaxBatchAge is how long a row waits for others: to 1 h; 0: 1 s;
	// negative: not at all, every Publish ends its frame.
	MaxBatchAge time.Duration
	// Spool keeps frames until they are acknowledged; nil: a MemorySpool of
	// DefaultSpoolBytes. It must have room for two frames of the largest size.
	Spool Spool
	// Full is what happens when the spool is full.
	Full FullPolicy

	// Commands that the device obeys, by name; nil: none. Others are
	// rejected as UNIMPLEMENTED.
	Commands map[string]Handler
	// JournalPath is the file in which executed command ids are remembered.
	// "": in memory only, so that a restart forgets them and a command whose
	// delivery the hub never heard of could run again.
	JournalPath string

	// Clock is the wall clock; nil: time.Now. A clock that stands before
	// 2024 is taken as not set. As long as there is no time, from the clock
	// or from the hub, the dates of the hub's certificate are not looked at,
	// unless BindingNone is set.
	Clock func() time.Time
	// ClockUnreliable says that Clock must not be used: rows without a time
	// are stamped with the hub's, carried on by the monotonic clock. Rows
	// taken before the first contact wait for it in memory (to 256 KiB),
	// and get the time at which they were taken; those still waiting when
	// the process ends are lost, since nothing knows their time.
	ClockUnreliable bool

	// BackoffMin and BackoffMax bound the wait before a new connection; the
	// wait is random between 0 and a bound that doubles. 0: 0.5 s and 60 s.
	BackoffMin, BackoffMax time.Duration
	// FlushTimeout is how long Run goes on after its context has ended, for
	// the hub to acknowledge what is spooled. 0: 5 s; negative: not at all.
	FlushTimeout time.Duration

	// Logger for what an operator should know; nil: silence.
	Logger *slog.Logger

	// The hooks below are called one at a time each, from the goroutine of
	// Run. They must not block. Any may be nil.

	// OnStateChange hears of every change, with the reason for Waiting and
	// Stopped.
	OnStateChange func(State, error)
	// OnAck hears of every frame that is durable: its rows, and the time
	// since it was last sent.
	OnAck func(rows int, latency time.Duration)
	// OnReject hears of every frame that the hub will never accept. Its rows
	// are lost.
	OnReject func(Rejection)
}

// Rejection is a frame that the hub has refused for good.
type Rejection struct {
	Rows   int
	Code   devicev1.RejectCode
	Detail string // the hub's words
}

// ConfigFromFile is the Config of the device file at path, which also keeps
// renewed credentials.
func ConfigFromFile(path string) (Config, error) {
	f, err := LoadFile(path)
	if err != nil {
		return Config{}, err
	}
	roots, err := RootsFromPEM(f.CAPEM)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w", ErrBadFile, path, err)
	}
	return Config{URL: f.HubURL, Credentials: NewFileStore(path), RootCAs: roots}, nil
}

// RootsFromPEM makes the RootCAs of a File's CAPEM; "" gives nil.
func RootsFromPEM(pem string) (*x509.CertPool, error) {
	if pem == "" {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("ca_pem holds no certificate")
	}
	return roots, nil
}

// minHeartbeatWish and maxHeartbeatWish are the protocol's bounds.
const (
	minHeartbeatWish = 5 * time.Second
	maxHeartbeatWish = 30 * time.Minute
	maxFirmwareBytes = 64
)

// resolve checks cfg and replaces zero values. Errors name the key.
func (cfg Config) resolve() (Config, error) {
	var err error
	if cfg.URL, err = resolveURL(cfg.URL, cfg.BindingNone); err != nil {
		return cfg, fmt.Errorf("client config: URL: %w", err)
	}
	if (cfg.Credentials == nil) == (cfg.Credential == device.Credential{}) {
		return cfg, errors.New("client config: give one of Credential and Credentials")
	}
	setDefault(&cfg.DialTimeout, 20*time.Second)
	setDefault(&cfg.MaxBatchRows, 100)
	setDefault(&cfg.MaxBatchBytes, 16<<10)
	setDefault(&cfg.MaxBatchAge, time.Second)
	setDefault(&cfg.BackoffMin, 500*time.Millisecond)
	setDefault(&cfg.BackoffMax, 60*time.Second)
	setDefault(&cfg.FlushTimeout, 5*time.Second)
	if cfg.Spool == nil {
		cfg.Spool = NewMemorySpool(0)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.NetDialContext == nil {
		cfg.NetDialContext = new(net.Dialer).DialContext
	}
	return cfg, cfg.checkLimits()
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (cfg *Config) checkLimits() error {
	for _, limit := range []struct {
		ok   bool
		text string
	}{
		{cfg.MaxBatchRows >= 1 && cfg.MaxBatchRows <= MaxFrameRows, "MaxBatchRows: 1 to 1000"},
		{cfg.MaxBatchBytes >= 1<<10 && cfg.MaxBatchBytes <= MaxFrameBytes, "MaxBatchBytes: 1 KiB to 64 KiB"},
		{cfg.MaxBatchAge <= time.Hour, "MaxBatchAge: at most 1 h"},
		{cfg.Spool.Stats().MaxBytes >= 2*int64(cfg.MaxBatchBytes), "Spool: must have room for two frames of MaxBatchBytes"},
		{cfg.Full <= DropOldest, "Full: Block or DropOldest"},
		{len(cfg.Firmware) <= maxFirmwareBytes, "Firmware: at most 64 bytes"},
		{cfg.HeartbeatWish == 0 || cfg.HeartbeatWish >= minHeartbeatWish && cfg.HeartbeatWish <= maxHeartbeatWish,
			"HeartbeatWish: 5 s to 30 min"},
		{cfg.DialTimeout > 0, "DialTimeout: above 0"},
		{cfg.BackoffMin > 0 && cfg.BackoffMin <= cfg.BackoffMax, "BackoffMin: above 0 and at most BackoffMax"},
	} {
		if !limit.ok {
			return fmt.Errorf("client config: %s", limit.text)
		}
	}
	for name, h := range cfg.Commands {
		if h.Run == nil {
			return fmt.Errorf("client config: Commands: %q has no Run", name)
		}
	}
	return nil
}

func resolveURL(text string, unbound bool) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", errors.New("must be wss://host[:port]" + device.Path)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("must carry neither a user nor a query")
	}
	switch u.Scheme {
	case "wss":
	case "ws":
		ip := net.ParseIP(u.Hostname())
		if !unbound || !(u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
			return "", errors.New("ws:// is for a loopback address with BindingNone only")
		}
	default:
		return "", errors.New("must begin with wss://")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = device.Path
	}
	return u.String(), nil
}
