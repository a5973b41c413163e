package jsstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
)

const (
	groupPrefix   = metaPrefix + "group."   // <id>
	membersPrefix = metaPrefix + "members." // <id>.<random>.<n>
	// membersChunk is the devices in one message of members.
	membersChunk = 5000
	// membersKept is longer than any group lives.
	membersKept = commands.MaxGroupIssue + commands.MaxTTL + commands.MaxTimeout + 24*time.Hour
)

// CreateGroup implements commands.Store. The members are stored first, under
// a random name that nothing else has; the group itself comes last, and with
// it all of it is there.
func (s *Store) CreateGroup(ctx context.Context, g *commands.Group, members []string) error {
	set := escape(g.ID) + "." + rand.Text()
	chunks := 0
	for rest := members; len(rest) > 0; chunks++ {
		n := min(membersChunk, len(rest))
		data, err := json.Marshal(rest[:n])
		if err != nil {
			return fmt.Errorf("encode the members of group %s: %w", g.ID, err)
		}
		m := nats.NewMsg(membersPrefix + set + "." + strconv.Itoa(chunks))
		m.Data = data
		m.Header.Set(jetstream.MsgTTLHeader, membersKept.String())
		if _, err := s.publish(ctx, m, commands.ErrExists); err != nil {
			return err
		}
		rest = rest[n:]
	}
	g.Members = set + ":" + strconv.Itoa(chunks)
	g.Revision = 0
	err := s.putGroup(ctx, g, commands.ErrExists)
	if errors.Is(err, commands.ErrExists) {
		s.dropMembers(ctx, g)
	}
	return err
}

// UpdateGroup implements commands.Store.
func (s *Store) UpdateGroup(ctx context.Context, g *commands.Group) error {
	if err := s.putGroup(ctx, g, commands.ErrStale); err != nil {
		return err
	}
	if !g.Ended.IsZero() {
		s.dropMembers(ctx, g)
	}
	return nil
}

func (s *Store) putGroup(ctx context.Context, g *commands.Group, mismatch error) error {
	data, err := encode(g)
	if err != nil {
		return fmt.Errorf("encode group %s: %w", g.ID, err)
	}
	m := nats.NewMsg(groupPrefix + escape(g.ID))
	m.Data = data
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(g.Revision, 10))
	if !g.Ended.IsZero() {
		m.Header.Set(jetstream.MsgTTLHeader, s.cfg.Retention.String())
	}
	seq, err := s.publish(ctx, m, mismatch)
	if err == nil {
		g.Revision = seq
	}
	return err
}

// dropMembers of a group that needs them no more. They would go by
// themselves, later.
func (s *Store) dropMembers(ctx context.Context, g *commands.Group) {
	set, _, ok := strings.Cut(g.Members, ":")
	if !ok {
		return
	}
	st, err := s.js.Stream(ctx, StreamMeta)
	if err == nil {
		err = st.Purge(ctx, jetstream.WithPurgeSubject(membersPrefix+set+".*"))
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the members of a finished group were not removed", "group", g.ID, "error", err)
	}
}

// Group implements commands.Store.
func (s *Store) Group(ctx context.Context, id string) (*commands.Group, error) {
	m, err := s.get(ctx, StreamMeta, getRequest{Last: groupPrefix + escape(id)})
	if errors.Is(err, errNoMessage) {
		return nil, commands.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read group %s: %w", id, err)
	}
	return decodeGroup(m)
}

// Members implements commands.Store.
func (s *Store) Members(ctx context.Context, id string) ([]string, error) {
	g, err := s.Group(ctx, id)
	if err != nil {
		return nil, err
	}
	set, count, _ := strings.Cut(g.Members, ":")
	chunks, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("read the members of group %s: bad reference %q", id, g.Members)
	}
	members := make([]string, 0, g.Total)
	for n := range chunks {
		m, err := s.get(ctx, StreamMeta, getRequest{Last: membersPrefix + set + "." + strconv.Itoa(n)})
		if err != nil {
			return nil, fmt.Errorf("read the members of group %s, part %d: %w", id, n, err)
		}
		var part []string
		if err := json.Unmarshal(m.Data, &part); err != nil {
			return nil, fmt.Errorf("read the members of group %s, part %d: %w", id, n, err)
		}
		members = append(members, part...)
	}
	if len(members) != g.Total {
		return nil, fmt.Errorf("group %s has %d members instead of %d", id, len(members), g.Total)
	}
	return members, nil
}

// Groups implements commands.Store.
func (s *Store) Groups(ctx context.Context) ([]*commands.Group, error) {
	var out []*commands.Group
	for from := uint64(1); ; {
		part, done, err := s.batch(ctx, StreamMeta, getRequest{Sequence: from, Next: groupPrefix + "*", Batch: batchSize}, math.MaxUint64)
		if err != nil {
			return nil, fmt.Errorf("read groups: %w", err)
		}
		for _, m := range part {
			g, err := decodeGroup(m)
			if err != nil {
				s.log.Error("a stored group cannot be read", "subject", m.Subject, "error", err)
				continue
			}
			out = append(out, g)
		}
		if done {
			return out, nil
		}
		from = part[len(part)-1].Sequence + 1
	}
}
