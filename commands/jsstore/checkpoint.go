package jsstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const checkpointSubject = metaPrefix + "checkpoint"

// maxCheckpointBytes keeps a checkpoint within one message: some 300,000
// commands. Beyond that the older checkpoint stays, and a start reads more.
const maxCheckpointBytes = 900 << 10

// checkpoint names the messages of commands that had not ended when the
// stream had come to the sequence At. It stays true for ever: what has changed
// since is behind At.
type checkpoint struct {
	Created time.Time // of the stream
	At      uint64
	Live    []uint64 // sequences, rising
}

// checkpointRecord is its stored form: Live as varints of the differences.
type checkpointRecord struct {
	Created time.Time `json:"created"`
	At      uint64    `json:"at"`
	Count   int       `json:"count"`
	Live    []byte    `json:"live"`
}

func (s *Store) writeCheckpoint(ctx context.Context, c *checkpoint) error {
	r := checkpointRecord{Created: c.Created, At: c.At, Count: len(c.Live), Live: make([]byte, 0, 3*len(c.Live))}
	last := uint64(0)
	for _, seq := range c.Live {
		r.Live = binary.AppendUvarint(r.Live, seq-last)
		last = seq
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(data) > maxCheckpointBytes {
		return fmt.Errorf("%d commands that have not ended are too many for one", len(c.Live))
	}
	m := nats.NewMsg(checkpointSubject)
	m.Data = data
	_, err = s.publish(ctx, m, errors.New("unexpected"))
	return err
}

// readCheckpoint returns nil when there is none that can be read.
func (s *Store) readCheckpoint(ctx context.Context) (*checkpoint, error) {
	m, err := s.get(ctx, StreamMeta, getRequest{Last: checkpointSubject})
	if errors.Is(err, errNoMessage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r checkpointRecord
	if err := json.Unmarshal(m.Data, &r); err != nil {
		s.log.Warn("the checkpoint of the command store cannot be read; reading the whole history", "error", err)
		return nil, nil
	}
	c := &checkpoint{Created: r.Created, At: r.At}
	seq := uint64(0)
	for b := r.Live; len(b) > 0; {
		step, n := binary.Uvarint(b)
		if n <= 0 {
			break
		}
		seq += step
		c.Live = append(c.Live, seq)
		b = b[n:]
	}
	if len(c.Live) != r.Count {
		s.log.Warn("the checkpoint of the command store is damaged; reading the whole history")
		return nil, nil
	}
	return c, nil
}
