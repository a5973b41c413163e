package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names in JetStream.
const (
	devicesBucket   = "devices"
	operatorsBucket = "operators"
	auditStream     = "AUDIT"
	auditSubject    = "AUDIT.changes"
)

// Defaults of Config.
const (
	DefaultGrace         = 24 * time.Hour
	DefaultAuditMaxAge   = 400 * 24 * time.Hour
	DefaultAuditMaxBytes = 256 << 20
)

// Config of a registry. The zero value is good for one node.
type Config struct {
	// Replicas of buckets and stream in a NATS cluster, 1 to 5; 0: 1.
	Replicas int
	// AuditMaxAge and AuditMaxBytes bound the audit log: the oldest records
	// go first. 0: 400 days, 256 MiB.
	AuditMaxAge   time.Duration
	AuditMaxBytes int64
	// Grace is how long a rotated credential goes on working unless the new
	// one is proved sooner; 0: 24 h; at most MaxGrace.
	Grace time.Duration
	// Sole says that no other Registry writes to the buckets, as on an embedded
	// server: there is nobody to be told of changes, or to be heard.
	Sole   bool
	Logger *slog.Logger // nil: slog.Default()
}

func (c Config) withDefaults() (Config, error) {
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.AuditMaxAge == 0 {
		c.AuditMaxAge = DefaultAuditMaxAge
	}
	if c.AuditMaxBytes == 0 {
		c.AuditMaxBytes = DefaultAuditMaxBytes
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Replicas < 1 || c.Replicas > 5:
		return c, fmt.Errorf("registry: replicas must be 1 to 5, not %d", c.Replicas)
	case c.AuditMaxAge < time.Hour:
		return c, fmt.Errorf("registry: the audit log must be kept for at least 1h, not %v", c.AuditMaxAge)
	case c.AuditMaxBytes < 1<<20:
		return c, fmt.Errorf("registry: the audit log must have at least 1 MiB, not %d bytes", c.AuditMaxBytes)
	case c.Grace < 0 || c.Grace > MaxGrace:
		return c, fmt.Errorf("registry: grace must be 0 to %v, not %v", MaxGrace, c.Grace)
	}
	return c, nil
}

// Registry of devices, operators and the audit log. All methods may run at
// once. Reads come from memory; a write returns when it is durable, visible
// to reads on this node, and every OnChange function has heard of it.
type Registry struct {
	cfg    Config
	logger *slog.Logger
	js     jetstream.JetStream
	audit  jetstream.Stream

	auditing auditing

	devices         devices
	operators       operators
	deviceMirror    *mirror
	operatorsMirror *mirror

	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open makes the buckets and the stream where they are missing and returns
// when everything in them is in memory. ctx bounds that; it does not outlive
// Open. Close the registry before the connection below js.
func Open(ctx context.Context, js jetstream.JetStream, cfg Config) (*Registry, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, logger: cfg.Logger, js: js}
	r.devices.init(r.logger)
	r.operators.init(r.logger)
	if err := r.auditing.init(js, r.logger); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if err := r.openStorage(ctx); err != nil {
		return nil, err
	}
	if err := r.follow(context.WithoutCancel(ctx)); err != nil {
		r.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	for _, m := range r.mirrors() {
		select {
		case <-m.synced:
		case <-ctx.Done():
			r.Close()
			return nil, fmt.Errorf("load registry bucket %s: %w", m.kv.Bucket(), errors.Join(ctx.Err(), m.check()))
		}
	}
	return r, nil
}

func (r *Registry) mirrors() []*mirror { return []*mirror{r.deviceMirror, r.operatorsMirror} }

// follow keeps the mirrors up to date until Close.
func (r *Registry) follow(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	r.stop = stop
	for _, m := range r.mirrors() {
		unlisten, err := m.listen()
		if err != nil {
			return err
		}
		r.running.Go(func() { defer unlisten(); m.run(ctx) })
		r.running.Go(func() { m.keepUp(ctx) })
		if !r.cfg.Sole {
			r.running.Go(func() { m.poll(ctx) })
		}
	}
	return nil
}

// openTimeout bounds the making of buckets and streams; without a deadline the
// library gives up after 5 s, which a slow disk may take.
const openTimeout = 30 * time.Second

func (r *Registry) openStorage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for _, b := range []struct {
		name, description string
		mirror            **mirror
		owner             mirrored
	}{
		{devicesBucket, "devices, their labels and credential generations", &r.deviceMirror, &r.devices},
		{operatorsBucket, "operators, their roles and hashed tokens", &r.operatorsMirror, &r.operators},
	} {
		kv, err := r.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: b.name, Description: b.description, Replicas: r.cfg.Replicas, History: 1,
			Storage: jetstream.FileStorage,
		})
		if err != nil {
			return fmt.Errorf("open registry bucket %s: %w", b.name, err)
		}
		*b.mirror = newMirror(r.js.Conn(), kv, !r.cfg.Sole, b.owner, r.logger)
	}
	audit, err := r.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: auditStream, Description: "what operators changed", Subjects: []string{auditSubject},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		MaxAge: r.cfg.AuditMaxAge, MaxBytes: r.cfg.AuditMaxBytes, Replicas: r.cfg.Replicas,
		AllowDirect: true, DenyDelete: true, DenyPurge: true,
	})
	if err != nil {
		return fmt.Errorf("open stream %s: %w", auditStream, err)
	}
	r.audit = audit
	return nil
}

// Close stops following the buckets and wakes every writer with ErrClosed;
// audit records that were begun are written. Reads go on answering from
// memory.
func (r *Registry) Close() {
	r.auditing.close()
	r.stop()
	r.running.Wait()
}

// Check is nil while this node follows every change; otherwise it says why
// it does not.
func (r *Registry) Check() error {
	for _, m := range r.mirrors() {
		if err := m.check(); err != nil {
			return fmt.Errorf("registry bucket %s is not followed: %w", m.kv.Bucket(), err)
		}
	}
	return nil
}

// Grace is the default period of grace of a rotated credential.
func (r *Registry) Grace() time.Duration { return r.cfg.Grace }
