package jsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
)

// Names in JetStream. Operators see them in its tools.
const (
	StreamCommands = "COMMANDS"
	StreamMeta     = "COMMANDS_META"

	commandPrefix = "tl.cmd."     // tl.cmd.<id>.<device>
	metaPrefix    = "tl.cmdmeta." // checkpoint, floor, group.<id>, members.<id>.<random>.<n>
)

// Defaults and bounds of a Config.
const (
	DefaultRetention = 30 * 24 * time.Hour
	MinRetention     = time.Hour
	DefaultMaxBytes  = 1 << 30
	MinMaxBytes      = 16 << 20
)

// openTimeout bounds the making of the streams; without a deadline the library
// gives up after 5 s, which a slow disk may take.
const openTimeout = 30 * time.Second

// Config of a Store.
type Config struct {
	Conn *nats.Conn // required; stays the caller's
	// JetStream on Conn; nil: plain. natsd's makes more durable.
	JetStream jetstream.JetStream
	// Replicas of the streams: 1, 3 or 5; 0: 1.
	Replicas int
	// Retention is how long commands and groups are kept after their end, from
	// MinRetention; 0: DefaultRetention. Idempotency keys are honoured as
	// long, unless MaxBytes needs their room before.
	Retention time.Duration
	// MaxBytes that all commands may take on disk, from MinMaxBytes; 0:
	// DefaultMaxBytes. Near it the oldest ended commands make room for new
	// ones, and their keys are forgotten; commands that have not ended are
	// never dropped. Where these fill nine tenths, less what their own ends
	// need, no new command is accepted.
	MaxBytes int64
	// Sole says that no other process writes to the streams, as on an embedded
	// server. What this process has written its dispatcher knows, so Follow
	// then looks through the changes now and then instead of having each one
	// delivered.
	Sole   bool
	Logger *slog.Logger // nil: slog.Default()
}

// Store is a commands.Store on JetStream. All methods may run at once.
type Store struct {
	cfg Config
	log *slog.Logger
	js  jetstream.JetStream

	last atomic.Uint64 // the highest revision that this Store has made

	// Of the room that there is: see room.go.
	bytes    atomic.Int64  // of the commands: as last seen, and what was written since
	stirred  atomic.Bool   // something was written since keepHouse looked
	live     atomic.Int64  // commands that have not ended
	dropped  atomic.Uint64 // that had ended, to make room
	created  time.Time     // of the stream
	floor    atomic.Uint64 // what is below has been dropped, should it come back
	refused  atomic.Int64  // Unix nanoseconds of the last Create for which there was no room
	tight    atomic.Bool   // nothing is left to drop, and the store is fuller than it should be
	follower atomic.Pointer[follower]
	room     sync.Mutex // one makes room at a time

	// How often Follow writes a checkpoint, and looks where the Store is the
	// sole one; tests have them small.
	checkpointChanges int
	checkpointEvery   time.Duration
	lookEvery         time.Duration
}

var _ commands.Store = (*Store)(nil)

// New makes the streams, or brings existing ones to the configuration.
func New(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Conn == nil {
		return nil, errors.New("command store: a connection is required")
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.Retention == 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.Retention < MinRetention {
		return nil, fmt.Errorf("command store: retention %s is under %s", cfg.Retention, MinRetention)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxBytes < MinMaxBytes {
		return nil, fmt.Errorf("command store: %d bytes are under %d", cfg.MaxBytes, int64(MinMaxBytes))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	js := cfg.JetStream
	if js == nil {
		var err error
		if js, err = jetstream.New(cfg.Conn); err != nil {
			return nil, fmt.Errorf("command store: %w", err)
		}
	}
	s := &Store{cfg: cfg, log: cfg.Logger, js: js, checkpointChanges: 5000, checkpointEvery: time.Minute, lookEvery: 250 * time.Millisecond}
	var state jetstream.StreamState
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for name, subject := range map[string]string{StreamCommands: commandPrefix + ">", StreamMeta: metaPrefix + ">"} {
		info, err := js.CreateOrUpdateStream(opening, s.streamConfig(name, subject))
		if err != nil {
			return nil, fmt.Errorf("command store: create stream %s: %w", name, err)
		}
		if name == StreamCommands {
			s.created, state = info.CachedInfo().Created, info.CachedInfo().State
		}
	}
	s.bytes.Store(int64(state.Bytes))
	floor, _, err := s.readFloor(ctx)
	if err != nil {
		return nil, fmt.Errorf("command store: %w", err)
	}
	s.floor.Store(floor.Floor)
	if err := s.keepDown(ctx, &state); err != nil {
		return nil, fmt.Errorf("command store: %w", err)
	}
	return s, nil
}

func (s *Store) streamConfig(name, subject string) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              name,
		Subjects:          []string{subject},
		Storage:           jetstream.FileStorage,
		Replicas:          s.cfg.Replicas,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, // the record; JetStream drops the one before
		AllowDirect:       true,
		AllowMsgTTL:       true,
		MaxBytes:          s.cfg.MaxBytes,
	}
	if name == StreamMeta {
		c.MaxBytes = 256 << 20
	}
	return c
}

// commandSubject has the id first: looking a command up by its id alone goes
// straight to it, however many devices and commands there are.
func commandSubject(id, device string) string {
	return commandPrefix + escape(id) + "." + device
}

// escape makes an id one token of a subject: ids have no '%'.
func escape(id string) string { return strings.ReplaceAll(id, ".", "%") }

// parseSubject is the reverse of commandSubject.
func parseSubject(subject string) (id, device string, ok bool) {
	id, device, ok = strings.Cut(strings.TrimPrefix(subject, commandPrefix), ".")
	return strings.ReplaceAll(id, "%", "."), device, ok
}

// Create implements commands.Store. The expectation covers the id with any
// device, so that an id is one command's only.
func (s *Store) Create(ctx context.Context, c *commands.Command) error {
	if err := s.admit(ctx); err != nil {
		return err
	}
	m, err := s.message(c)
	if err != nil {
		return err
	}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	m.Header.Set(expectedSubjectHeader, commandPrefix+escape(c.ID)+".*")
	c.Revision, err = s.publish(ctx, m, commands.ErrExists)
	s.made(c.Revision)
	return err
}

// made takes note of a revision that was made here; 0: none was.
func (s *Store) made(revision uint64) {
	for last := s.last.Load(); revision > last && !s.last.CompareAndSwap(last, revision); last = s.last.Load() {
	}
}

// Update implements commands.Store.
func (s *Store) Update(ctx context.Context, c *commands.Command) error {
	m, err := s.message(c)
	if err != nil {
		return err
	}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(c.Revision))
	seq, err := s.publish(ctx, m, commands.ErrStale)
	if errors.Is(err, commands.ErrFull) && s.makeRoom(ctx, 64) == nil {
		seq, err = s.publish(ctx, m, commands.ErrStale)
	}
	if err == nil {
		c.Revision = seq
		s.made(seq)
	}
	return err
}

// Headers of a message: of JetStream, and our own.
const (
	expectedSubjectHeader = "Nats-Expected-Last-Subject-Sequence-Subject"
	stateHeader           = "Tl-State"
)

// message is the record of a command. One that has ended lives as long as the
// history is kept; one that has not, lives until it has.
func (s *Store) message(c *commands.Command) (*nats.Msg, error) {
	data, err := encode(c)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", c.ID, err)
	}
	m := nats.NewMsg(commandSubject(c.ID, c.Device))
	m.Data = data
	m.Header.Set(stateHeader, c.State.String())
	if c.State.Ended() {
		m.Header.Set(jetstream.MsgTTLHeader, s.cfg.Retention.String())
	}
	return m, nil
}

// publish returns mismatch when the message's expectation does not hold.
func (s *Store) publish(ctx context.Context, m *nats.Msg, mismatch error) (uint64, error) {
	ack, err := s.js.PublishMsg(ctx, m)
	if err == nil {
		if ack.Stream == StreamCommands {
			s.wrote(m.Size())
		}
		return ack.Sequence, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return 0, mismatch
		case codeMaximumBytes:
			return 0, fmt.Errorf("%w: %w", commands.ErrFull, err)
		}
	}
	return 0, fmt.Errorf("publish to %s: %w", m.Subject, err)
}

// codeMaximumBytes is what a full stream with discard new answers. nats.go
// has no name for it.
const codeMaximumBytes jetstream.ErrorCode = 10077
