package jsstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
)

// storedMessage is a message as a stream holds it.
type storedMessage struct {
	Subject  string      `json:"subject"`
	Sequence uint64      `json:"seq"`
	Data     []byte      `json:"data"`
	Header   nats.Header `json:"-"`
	Time     time.Time   `json:"time"`

	RawHeader []byte `json:"hdrs"`
}

// getRequest asks for one message, or with Batch for many.
type getRequest struct {
	Sequence uint64 `json:"seq,omitempty"`
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"` // from Sequence on
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// errNoMessage says that the stream has no such message.
var errNoMessage = errors.New("no such message")

// A read is asked again when no answer has come: the server that was to give
// it may have gone with the request. It is given up after readTimeout.
const (
	readTimeout = 5 * time.Second
	askTimeout  = time.Second
)

// get one message. With replicas the leader is asked: a follower may be
// behind, and steps are decided on what is read here.
func (s *Store) get(ctx context.Context, stream string, r getRequest) (*storedMessage, error) {
	ask := s.getDirect
	if s.cfg.Replicas > 1 {
		ask = s.getFromLeader
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		once, cancel := context.WithTimeout(ctx, askTimeout)
		m, err := ask(once, stream, r)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			continue
		case noLeader(err) && ctx.Err() == nil:
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
				continue
			}
		}
		return m, err
	}
}

// noLeader reports whether err says that there is none, for the moment.
func noLeader(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrNoResponders) || errors.As(err, &api) && api.Code == http.StatusServiceUnavailable
}

func (s *Store) getDirect(ctx context.Context, stream string, r getRequest) (*storedMessage, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m, err := s.cfg.Conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	return direct(m)
}

func (s *Store) getFromLeader(ctx context.Context, stream string, r getRequest) (*storedMessage, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m, err := s.cfg.Conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMessage      `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("decode the answer of the stream: %w", err)
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, errNoMessage
		}
		return nil, answer.Error
	}
	if answer.Message == nil {
		return nil, errors.New("the stream's answer is empty")
	}
	if len(answer.Message.RawHeader) > 0 {
		if answer.Message.Header, err = nats.DecodeHeadersMsg(answer.Message.RawHeader); err != nil {
			return nil, fmt.Errorf("decode a message's header: %w", err)
		}
	}
	return answer.Message, nil
}

// direct reads the answer to a direct get.
func direct(m *nats.Msg) (*storedMessage, error) {
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, errNoMessage
	default:
		return nil, fmt.Errorf("the stream answers %s %s", status, m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(m.Header.Get(nats.JSSequence), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the stream's answer has no sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(nats.JSTimeStamp))
	if err != nil {
		return nil, fmt.Errorf("the stream's answer has no time: %w", err)
	}
	return &storedMessage{Subject: m.Header.Get(nats.JSSubject), Sequence: seq, Data: m.Data, Header: m.Header, Time: at}, nil
}

// Scan implements commands.Store: it reads windows of sequences forward, and
// goes through them and within them backward.
//
// The server looks at every subject of the stream for each filtered request.
// So narrow windows are read whole, and only the wide ones that a sparse
// device leads to are filtered there.
func (s *Store) Scan(ctx context.Context, scan commands.Scan, fn func(*commands.Command, time.Time) bool) error {
	width := uint64(batchSize)
	for high := scan.High; high > scan.Low; {
		low := scan.Low
		if high-scan.Low > width {
			low = high - width
		}
		filter := ""
		if scan.Device != "" && width > 4*batchSize {
			filter = commandPrefix + "*." + scan.Device
		}
		window, err := s.window(ctx, filter, low, high)
		if err != nil {
			return fmt.Errorf("scan commands from %d to %d: %w", low, high, err)
		}
		matched := 0
		for i := len(window) - 1; i >= 0; i-- {
			if scan.Device != "" && !strings.HasSuffix(window[i].Subject, "."+scan.Device) {
				continue
			}
			matched++
			c, err := decode(window[i])
			if err != nil {
				s.log.Error("a stored command cannot be read", "subject", window[i].Subject, "error", err)
				continue
			}
			if !fn(c, window[i].Time) {
				return nil
			}
		}
		if matched < batchSize/2 && width < 1<<40 {
			width *= 2 // few of the sequences match
		} else if matched > 4*batchSize && width > batchSize {
			width /= 2
		}
		high = low
	}
	return nil
}

// Since implements commands.Store. What is changed while it reads moves to
// the end, which it has yet to come to.
func (s *Store) Since(ctx context.Context, device string, low uint64, fn func(*commands.Command)) error {
	err := s.forward(ctx, "", low, math.MaxUint64, func(m *storedMessage) {
		if device != "" && !strings.HasSuffix(m.Subject, "."+device) {
			return
		}
		c, err := decode(m)
		if err != nil {
			s.log.Error("a stored command cannot be read", "subject", m.Subject, "error", err)
			return
		}
		fn(c)
	})
	if err != nil {
		return fmt.Errorf("read commands from %d on: %w", low, err)
	}
	return nil
}

// window reads what matches of the sequences above low up to high.
func (s *Store) window(ctx context.Context, filter string, low, high uint64) (out []*storedMessage, err error) {
	err = s.forward(ctx, filter, low, high, func(m *storedMessage) { out = append(out, m) })
	return out, err
}

// forward calls fn with what matches of the sequences above low up to high,
// rising.
func (s *Store) forward(ctx context.Context, filter string, low, high uint64, fn func(*storedMessage)) error {
	for from := low + 1; from <= high; {
		part, done, err := s.batch(ctx, StreamCommands, getRequest{Sequence: from, Next: filter, Batch: batchSize + 1}, high)
		if err != nil {
			return err
		}
		if done && s.cfg.Replicas > 1 && (len(part) == 0 || part[len(part)-1].Sequence < high) {
			// Any replica may have answered, and may be behind the leader.
			if n := len(part); n > 0 {
				from = part[n-1].Sequence + 1
			}
			m, err := s.get(ctx, StreamCommands, getRequest{Sequence: from, Next: cmp.Or(filter, commandPrefix+">")})
			if err != nil && !errors.Is(err, errNoMessage) {
				return err
			}
			if err == nil && m.Sequence <= high {
				part, done = append(part, m), false
			}
		}
		for _, m := range part {
			fn(m)
		}
		if done {
			return nil
		}
		from = part[len(part)-1].Sequence + 1
	}
	return nil
}
