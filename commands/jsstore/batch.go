package jsstore

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// batchSize is the messages asked for at once, and the widest step of a scan.
const batchSize = 512

// batch reads messages forward from r.Sequence, up to r.Batch of them and to
// the sequence high. done: there are no more.
func (s *Store) batch(ctx context.Context, stream string, r getRequest, high uint64) (out []*storedMessage, done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r.MaxBytes = 4 << 20
	body, err := json.Marshal(r)
	if err != nil {
		return nil, false, err
	}
	// Any server of a cluster may be the one that is asked, and it may have
	// stopped: then nothing comes, and another one is asked.
	for patience := firstPart; ; patience *= 2 {
		out, done, err = s.batchOnce(ctx, stream, body, high, patience)
		if !errors.Is(err, errSilent) || ctx.Err() != nil {
			return out, done, err
		}
	}
}

// firstPart is how long the first message of a batch may take.
const firstPart = 500 * time.Millisecond

var errSilent = errors.New("no server has answered")

func (s *Store) batchOnce(ctx context.Context, stream string, request []byte, high uint64, patience time.Duration) (out []*storedMessage, done bool, err error) {
	inbox := s.cfg.Conn.NewInbox()
	sub, err := s.cfg.Conn.SubscribeSync(inbox)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.cfg.Conn.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, request); err != nil {
		return nil, false, err
	}
	first, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := sub.NextMsgWithContext(first)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, false, errSilent
	}
	for last := false; ; m, err = sub.NextMsgWithContext(ctx) {
		if err != nil {
			return nil, false, err
		}
		if m.Header.Get("Status") == "204" {
			return out, last || len(out) == 0, nil
		}
		got, err := direct(m)
		if errors.Is(err, errNoMessage) {
			return out, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		if got.Sequence > high {
			return out, true, nil
		}
		out = append(out, got)
		last = m.Header.Get("Nats-Num-Pending") == "0"
	}
}
