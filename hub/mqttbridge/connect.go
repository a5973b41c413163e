package mqttbridge

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Reconnecting: the pause doubles from the one to the other, half of it at
// random. A connection that has lasted settleTime begins with the first.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 60 * time.Second
	settleTime = 15 * time.Second
)

// connectionLost begins the error of a session that had begun.
const connectionLost = "connection lost: "

// disconnectTime is how long a goodbye may take.
const disconnectTime = time.Second

// connection keeps a session with the broker while run runs.
type connection struct {
	dialer   *dialer
	clientID string
	filters  []string
	wanted   func(topic string) bool // what filters are there for; nil: all that comes
	before   subscribed
	// retained hears how many retained messages have come with a subscription
	// to the hub's own broker; heldUp says whether a session that is to be begun
	// again needs no subscription.
	retained func(s *link, n int)
	heldUp   func(s *link) bool
	// take gets the messages of a session, and says whether the broker may
	// wait for acknowledgements.
	take  func(s *link, batch []*arrival) (full bool)
	fills func(messages int) bool // full would be true with so many more
	// up and down are told of each session, up with whether the broker goes
	// on with one or has forgotten it, down with why. refused hears what the
	// broker does not allow, odd what went wrong besides.
	up      func(s *link, resumed, forgotten bool)
	down    func(s *link, err error)
	failed  func(err error)
	refused func(filter string)
	odd     func(err error)
	pauses  [2]time.Duration // first and last

	quiet bool      // the next session needs no subscription, if it is resumed
	askAt time.Time // to ask again for what is retained; zero: there is no need
}

// run connects and reconnects until ctx ends. The session that is up then is
// left to the caller, with down called for it.
func (c *connection) run(ctx context.Context, closing func(s *link)) {
	pause := c.pauses[0]
	for ctx.Err() == nil {
		began := time.Now()
		again, err := c.once(ctx, closing)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.failed(err)
		}
		if time.Since(began) > settleTime || again {
			pause = c.pauses[0]
		}
		if again {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		pause = min(2*pause, c.pauses[1])
	}
}

// once connects and serves until the session is lost, or is to be begun
// again, or ctx ends.
func (c *connection) once(ctx context.Context, closing func(s *link)) (anew bool, err error) {
	network, cut := context.WithCancel(context.Background())
	defer cut()
	s := &link{
		lost: make(chan error, 1), again: make(chan struct{}, 1), begun: make(chan struct{}),
	}
	s.acks.wake = make(chan struct{}, 1)
	handler := func(_ mqtt.Client, m mqtt.Message) { c.take(s, []*arrival{fromClient(m)}) }
	options, err := c.dialer.optionsWith(network, c.clientID, handler, func(conn *packetConn) {
		s.conn, conn.wanted, conn.owned, conn.fills = conn, c.wanted, c.dialer.endpoint != nil, c.fills
		conn.take = func(batch []*arrival) bool { return c.take(s, batch) }
	})
	if err != nil {
		return false, err
	}
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.lost <- err })
	s.client = mqtt.NewClient(options)
	stop := context.AfterFunc(ctx, cut) // while connecting
	token := s.client.Connect()
	<-token.Done()
	s.resumed = token.(*mqtt.ConnectToken).SessionPresent()
	close(s.begun)
	if err := token.Error(); err != nil {
		stop()
		return false, plainError(err)
	}
	var besides sync.WaitGroup
	besides.Go(s.acks.run)
	defer func() {
		s.acks.close()
		cut()
		besides.Wait()
	}()
	quiet := c.quiet && s.resumed
	c.quiet = false
	late := c.lateRetained(s, quiet)
	known, stale, err := c.subscribe(ctx, s, quiet)
	if err != nil {
		s.client.Disconnect(0)
		stop()
		return false, err
	}
	if !stop() {
		s.client.Disconnect(0)
		return false, ctx.Err()
	}
	if len(stale) > 0 {
		besides.Go(func() { c.leave(network, s, stale) })
	}
	s.asking.Store(late != nil || s.conn.owned && !quiet)
	c.up(s, s.resumed, known && !s.resumed)
	var marker mqtt.Token
	if !quiet {
		marker = c.mark(s)
	}
	for serving := true; serving; {
		serving = false
		again := s.again
		if marker != nil {
			again = nil // the broker would wait for acknowledgements of what it has not sent
		}
		select {
		case <-late:
			serving, late, c.askAt = true, nil, time.Time{}
			for chunk := range c.chunks() {
				s.client.SubscribeMultiple(chunk, nil) // lost with the connection, if at all
			}
			marker = c.mark(s)
		case <-done(marker):
			serving = true
			if marker.Error() == nil {
				c.retained(s, int(s.conn.retained.Swap(0)))
			}
			marker = nil
			s.asking.Store(late != nil)
		case err = <-s.lost:
			err = fmt.Errorf(connectionLost+"%w", plainError(err))
		case <-again:
			anew, c.quiet = true, c.heldUp(s)
			s.flush(disconnectTime)
		case <-ctx.Done():
			closing(s)
		}
	}
	c.down(s, err)
	s.client.Disconnect(uint(disconnectTime.Milliseconds()))
	return anew, err
}

// retainedPause is after how long the embedded broker is asked again for what
// it retains, in a session whose filters are new. It finds a message a moment
// after its publisher has been told that it is retained: a subscription in just
// that moment is sent neither it nor its copy.
const retainedPause = 2 * time.Second

// lateRetained is when to ask again; nil: never.
func (c *connection) lateRetained(s *link, quiet bool) <-chan time.Time {
	if quiet && !c.askAt.IsZero() {
		return time.After(time.Until(c.askAt))
	}
	c.askAt = time.Time{}
	if c.dialer.endpoint == nil || s.resumed && c.before.has(c.dialer.url, c.clientID, c.filters) {
		return nil
	}
	c.askAt = time.Now().Add(retainedPause)
	return time.After(retainedPause)
}

// chunks are the filters with QoS 1, some in one packet.
func (c *connection) chunks() iter.Seq[map[string]byte] {
	return func(yield func(map[string]byte) bool) {
		for chunk := range slices.Chunk(c.filters, 64) {
			wanted := make(map[string]byte, len(chunk))
			for _, f := range chunk {
				wanted[f] = 1
			}
			if !yield(wanted) {
				return
			}
		}
	}
}

// subscribe to all filters with QoS 1, and end the subscriptions of an earlier
// config after that, so that nothing falls in between. The broker's answers
// must come before the session counts. known: there was a session before. stale
// are subscriptions that must not end yet. quiet: it is subscribed.
func (c *connection) subscribe(ctx context.Context, s *link, quiet bool) (known bool, stale []string, err error) {
	for chunk := range c.chunks() {
		if quiet {
			break
		}
		token := s.client.SubscribeMultiple(chunk, nil)
		if err := s.await(ctx, token); err != nil {
			return false, nil, err
		}
		for filter, qos := range token.(*mqtt.SubscribeToken).Result() {
			if qos > 2 {
				c.refused(filter)
			}
		}
	}
	stale, known = c.before.stale(c.dialer.url, c.clientID, c.filters)
	if c.dialer.taken != nil && s.resumed {
		c.note(slices.Concat(c.filters, stale))
		return known, stale, nil
	}
	for chunk := range slices.Chunk(stale, 64) {
		if err := s.await(ctx, s.client.Unsubscribe(chunk...)); err != nil {
			return known, nil, err
		}
	}
	c.note(c.filters)
	return known, nil, nil
}

// note what the session is subscribed to.
func (c *connection) note(filters []string) {
	if err := c.before.save(subscription{c.dialer.url, c.clientID, filters}); err != nil {
		c.odd(err)
	}
}

// leavePause is before another attempt to end subscriptions.
const leavePause = time.Second

// leave ends subscriptions of an earlier config when all is acknowledged that
// waited under them before the others began: the embedded broker drops it with
// them. What is published meanwhile comes once for each and is stored as often.
// Where the session ends before, the next one does it.
func (c *connection) leave(ctx context.Context, s *link, stale []string) {
	for c.dialer.taken(ctx, c.clientID) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(leavePause):
		}
	}
	for chunk := range slices.Chunk(stale, 64) {
		token := s.client.Unsubscribe(chunk...)
		select {
		case <-token.Done():
			if token.Error() != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
	c.note(c.filters)
}
