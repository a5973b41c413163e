package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// change of one key in a bucket.
type change struct {
	key      string
	value    []byte // nil: the key is gone
	revision uint64
}

// errNoChange says that the bucket has no such change.
var errNoChange = errors.New("no such change")

// A read is asked again when no answer has come: the server that was to give
// it may have gone with the request. It is given up after statusTimeout.
const (
	statusTimeout = 5 * time.Second
	askTimeout    = time.Second
	leaderPause   = 50 * time.Millisecond
)

// getRequest asks for a message of a stream: the first one of NextFor at
// Sequence or after it, or the last one of LastFor.
type getRequest struct {
	Sequence uint64 `json:"seq,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
}

// streamState is what a bucket's stream is at the moment.
type streamState struct {
	created time.Time
	last    uint64 // sequence of the last write, which may have been purged since
}

func (m *mirror) prefix() string { return "$KV." + m.kv.Bucket() + "." }

// next is the first change with that revision or a later one, from the leader.
func (m *mirror) next(ctx context.Context, revision uint64) (change, error) {
	return m.get(ctx, getRequest{Sequence: revision, NextFor: m.prefix() + ">"})
}

// newest is the last change of a key, from the leader: the other servers may be
// behind.
func (m *mirror) newest(ctx context.Context, key string) (change, error) {
	return m.get(ctx, getRequest{LastFor: m.prefix() + key})
}

// get asks the leader of the bucket's stream. A leader that is being elected is
// waited for.
func (m *mirror) get(ctx context.Context, r getRequest) (change, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return change{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	for {
		c, err := m.ask(ctx, body)
		switch {
		case err == nil || ctx.Err() != nil:
			return c, err
		case errors.Is(err, context.DeadlineExceeded):
		case noLeader(err):
			select {
			case <-ctx.Done():
			case <-time.After(leaderPause):
			}
		default:
			return c, err
		}
	}
}

func (m *mirror) ask(ctx context.Context, body []byte) (change, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	msg, err := m.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+m.kv.Bucket(), body)
	if err != nil {
		return change{}, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return change{}, fmt.Errorf("decode the answer of the stream: %w", err)
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return change{}, errNoChange
		}
		return change{}, answer.Error
	}
	if answer.Message == nil {
		return change{}, errors.New("the stream's answer is empty")
	}
	c := change{
		key:      strings.TrimPrefix(answer.Message.Subject, m.prefix()),
		revision: answer.Message.Sequence,
	}
	var header nats.Header
	if len(answer.Message.Header) > 0 {
		if header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return change{}, fmt.Errorf("decode the header of key %s: %w", c.key, err)
		}
	}
	if !deletes(header) {
		c.value = append([]byte{}, answer.Message.Data...)
	}
	return c, nil
}

// deletes reports whether a message with that header says that its key is gone.
func deletes(h nats.Header) bool {
	switch h.Get("KV-Operation") {
	case "DEL", "PURGE":
		return true
	}
	return h.Get("Nats-Marker-Reason") != ""
}

// noLeader reports whether err says that there is none, for the moment.
func noLeader(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrNoResponders) || errors.As(err, &api) && api.Code == http.StatusServiceUnavailable
}

// state is that of the bucket's stream, from its leader.
func (m *mirror) state(ctx context.Context) (streamState, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := m.kv.Status(ctx)
	if err != nil {
		return streamState{}, fmt.Errorf("read the state of bucket %s: %w", m.kv.Bucket(), err)
	}
	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return streamState{}, fmt.Errorf("bucket %s has an unknown kind of state", m.kv.Bucket())
	}
	info := bucket.StreamInfo()
	return streamState{created: info.Created, last: info.State.LastSeq}, nil
}

// lastRevision is that of the last write to the bucket.
func (m *mirror) lastRevision(ctx context.Context) (uint64, error) {
	s, err := m.state(ctx)
	return s.last, err
}
