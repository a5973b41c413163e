package mqttbridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// acks are acknowledgements of messages of QoS 2 on their way to the client,
// in their order. Sending one may wait for the network, so that a goroutine of
// its own does it. What waits is bounded by what the broker has sent without
// an acknowledgement.
type acks struct {
	wake chan struct{} // has room for one word

	mu      sync.Mutex
	waiting []mqtt.Message
	sending bool
	closed  bool
}

func (a *acks) send(m mqtt.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.waiting = append(a.waiting, m)
		a.signal()
	}
}

func (a *acks) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sends until close.
func (a *acks) run() {
	for range a.wake {
		a.mu.Lock()
		batch, closed := a.waiting, a.closed
		a.waiting, a.sending = nil, len(batch) > 0
		a.mu.Unlock()
		if closed {
			return
		}
		for _, m := range batch {
			m.Ack()
		}
		a.mu.Lock()
		a.sending = false
		a.mu.Unlock()
	}
}

// sent reports whether everything has been handed to the network.
func (a *acks) sent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting) == 0 && !a.sending
}

// close drops what is left: the session is over.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed, a.waiting = true, nil
	a.signal()
}

// link is one connection to the broker: a client that is used once.
type link struct {
	client mqtt.Client
	lost   chan error // has room for one
	again  chan struct{}
	conn   *packetConn
	acks   acks
	begun  chan struct{} // closed when the broker has answered
	// The broker has gone on with the session before; set when it has begun.
	resumed bool
	// What the hub's own broker retains is still asked for.
	asking atomic.Bool

	// The worker's.
	crowded bool // it was told that messages were left
	fence   fence

	// Guarded by the inbox's mu.
	missed    bool  // messages of QoS 1 were left for want of room
	unsettled idSet // on their way
	most      int   // of those at once
	kept      int   // messages that the hub's own broker retains, on their way
	// missed not for want of room: the broker holds messages up.
	heldUp bool
}

// idSet is a set of packet identifiers. Its zero value is empty.
type idSet struct {
	bits [packetIDs / 64]uint64
	n    int
}

func (s *idSet) has(id uint16) bool { return s.bits[id/64]&(1<<(id%64)) != 0 }

func (s *idSet) add(id uint16) {
	if !s.has(id) {
		s.bits[id/64] |= 1 << (id % 64)
		s.n++
	}
}

func (s *idSet) remove(id uint16) {
	if s.has(id) {
		s.bits[id/64] &^= 1 << (id % 64)
		s.n--
	}
}

// acked reports whether every acknowledgement has gone out, or never will.
func (s *link) acked() bool { return s.acks.sent() && s.conn.written() }

// flush waits until that is so, for at most that long.
func (s *link) flush(atMost time.Duration) {
	for deadline := time.Now().Add(atMost); !s.acked() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

// await the broker's answer to a subscription.
func (s *link) await(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
	case err := <-s.lost:
		return fmt.Errorf("connection lost while subscribing: %w", plainError(err))
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(connectTimeout):
		return fmt.Errorf("the broker does not answer the subscription within %v", connectTimeout)
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", plainError(err))
	}
	return nil
}

// reset has the session begun again: the broker sends what it holds.
func (s *link) reset() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// plainError is the error of a client in words for people.
func plainError(err error) error {
	switch {
	case err == nil:
		return errors.New("closed by the broker")
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return errors.New("the broker refuses user or password")
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return errors.New("the broker refuses the client id")
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return errors.New("the broker is not available")
	case err.Error() == "EOF", errors.Is(err, syscall.EPIPE), strings.HasSuffix(err.Error(), syscall.EPIPE.Error()):
		return errors.New("closed by the broker, which gives no reason: its log may have one. Another client with the same client id is one, a broker that stops or cannot keep up are others")
	}
	if text, ok := strings.CutPrefix(err.Error(), packets.ErrorNetworkError.Error()+" : "); ok {
		return errors.New(text)
	}
	return err
}
