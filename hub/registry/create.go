package registry

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NewDevice is a device to be made.
type NewDevice struct {
	ID           string
	Kind         string // "": KindDevice
	Labels       map[string]string
	Note         string
	AllowUnbound bool
	// KeyID is the master key its secret comes from: Keyring.ActiveID.
	KeyID string
	Gear  *Gear // needed for KindMQTT, and for no other
}

// Created is what became of one NewDevice: a device or an error.
type Created struct {
	Device *Device
	Err    error
}

// createWindow is how many devices are written at once: enough to hide the
// round trip, well below the client's bound of outstanding publishes.
const createWindow = 256

// Create makes a device. Its generation is 1, or follows the last one that a
// deleted device of the same id has had. It returns ErrExists or ErrInvalid.
func (r *Registry) Create(ctx context.Context, n NewDevice) (*Device, error) {
	outcome := r.CreateMany(ctx, []NewDevice{n})[0]
	return outcome.Device, outcome.Err
}

// CreateMany makes many devices, each with its own outcome, in the order of
// the argument. A refused one does not keep the others from being made. The
// error of a device is ErrExists, ErrInvalid, or that of the storage; after
// the last kind the device may or may not have been made.
func (r *Registry) CreateMany(ctx context.Context, all []NewDevice) []Created {
	out := make([]Created, len(all))
	taken := make(map[string]bool, len(all))
	now := time.Now().UTC()
	var last uint64
	for start := 0; start < len(all); start += createWindow {
		end := min(start+createWindow, len(all))
		sent := make([]*creation, 0, end-start)
		for i := start; i < end; i++ {
			c, err := r.prepare(all[i], now)
			if err == nil && taken[all[i].ID] {
				err = fmt.Errorf("device %s %w", all[i].ID, ErrExists)
			}
			if err == nil {
				taken[all[i].ID] = true
				err = r.send(c)
			}
			if err != nil {
				out[i].Err = err
				continue
			}
			c.index = i
			sent = append(sent, c)
		}
		for _, c := range sent {
			out[c.index] = c.outcome(ctx)
			if d := out[c.index].Device; d != nil {
				last = max(last, d.Revision)
			}
		}
	}
	if err := r.deviceMirror.wrote(ctx, last); err != nil {
		for i := range out {
			if out[i].Device != nil {
				out[i] = Created{Err: fmt.Errorf("device %s: %w", all[i].ID, err)}
			}
		}
	}
	return out
}

// creation is one device on its way.
type creation struct {
	record record
	over   uint64 // revision of the tombstone; 0: the id is new
	index  int
	ack    jetstream.PubAckFuture
}

func (r *Registry) prepare(n NewDevice, now time.Time) (*creation, error) {
	if n.Kind == "" {
		n.Kind = KindDevice
	}
	c := &creation{record: record{Device: Device{
		ID: n.ID, Kind: n.Kind, Labels: n.Labels, Note: n.Note, AllowUnbound: n.AllowUnbound,
		KeyID: n.KeyID, Generation: 1, Created: now, Gear: n.Gear,
	}}}
	c.record.Device = *c.record.Clone()
	if len(c.record.Labels) == 0 {
		c.record.Labels = nil
	}
	if err := c.record.check(); err != nil {
		return nil, err
	}
	previous := r.devices.get(n.ID)
	switch {
	case previous == nil:
	case !previous.Deleted:
		return nil, fmt.Errorf("device %s %w", n.ID, ErrExists)
	case previous.Generation == math.MaxUint32:
		return nil, fmt.Errorf("%w: device %s has had every generation there is; choose another id", ErrInvalid, n.ID)
	default:
		c.record.Generation = previous.Generation + 1
		c.over = previous.Revision
	}
	return c, nil
}

// send publishes the device to its key, on the condition that nobody else
// has written there.
func (r *Registry) send(c *creation) error {
	value, err := c.record.encode()
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: "$KV." + devicesBucket + "." + c.record.ID, Data: value}
	c.ack, err = r.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequencePerSubject(c.over))
	if err != nil {
		return fmt.Errorf("save device %s: %w", c.record.ID, err)
	}
	return nil
}

func (c *creation) outcome(ctx context.Context) Created {
	select {
	case ack := <-c.ack.Ok():
		c.record.Revision = ack.Sequence
		return Created{Device: &c.record.Device}
	case err := <-c.ack.Err():
		if isMismatch(err) {
			return Created{Err: fmt.Errorf("device %s %w", c.record.ID, ErrExists)}
		}
		return Created{Err: fmt.Errorf("save device %s: %w", c.record.ID, err)}
	case <-ctx.Done():
		return Created{Err: fmt.Errorf("save device %s: no answer, it may have been made: %w", c.record.ID, ctx.Err())}
	}
}
