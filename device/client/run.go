package client

import (
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"
)

// errRenewed ends a session whose credential has been replaced.
var errRenewed = errors.New("credential renewed")

// runSessions holds one session after the other, until work ends, ctx ends
// with nothing left to do, or the hub refuses the device for good.
func (c *Client) runSessions(ctx, work context.Context) error {
	for {
		err := c.runSession(work)
		if work.Err() != nil || ctx.Err() != nil && !c.worthWaiting() {
			return nil
		}
		delay, stop := c.afterSession(err)
		if stop {
			return err
		}
		if delay == 0 {
			continue
		}
		c.setState(Waiting, err)
		c.log.Info("connection to hub ended", "device", c.id, "error", err, "retry_in", delay)
		if !c.pause(ctx, work, delay) {
			return nil
		}
	}
}

// pause waits for delay. False: there is no reason to connect again.
func (c *Client) pause(ctx, work context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	ending := ctx.Done()
	for {
		select {
		case <-timer.C:
			return true
		case <-work.Done():
			return false
		case <-ending:
			if !c.worthWaiting() {
				return false
			}
			ending = nil
		}
	}
}

// afterSession decides how long to wait after a session has ended with err,
// or whether to stop.
func (c *Client) afterSession(err error) (delay time.Duration, stop bool) {
	if errors.Is(err, errRenewed) {
		return 0, false
	}
	if errors.Is(err, ErrUnauthorized) && c.credentials.Next != nil && c.refusedNext != *c.credentials.Next {
		c.refusedNext = *c.credentials.Next
		c.log.Warn("hub does not accept the renewed credential; going back to the one before", "device", c.id)
		return 0, false
	}
	var closed *CloseError
	if errors.As(err, &closed) {
		if closed.Code >= closeStop {
			return 0, true
		}
		return c.afterClose(closed), false
	}
	var dial *DialError
	if errors.As(err, &dial) && dial.RetryAfter > 0 {
		return c.backoff.after(dial.RetryAfter), false
	}
	return c.backoff.next(), false
}

func (c *Client) afterClose(closed *CloseError) time.Duration {
	switch closed.Code {
	case closeDraining:
		if slot, ok := retrySlot(closed.Reason); ok && slot > 0 {
			return slot // the hub has spread its devices over the slots already
		}
	case closeSuperseded:
		c.log.Warn("another connection uses this device's credential", "device", c.id)
		c.backoff.atLeast(4)
	case closeRateLimit:
		c.backoff.atLeast(3)
	}
	return c.backoff.next()
}

// stableAfter is how long a session must last to prove that the hub can be
// lived with. One with acknowledgements does so at once.
const stableAfter = 30 * time.Second

// runSession dials, proves and serves one connection.
func (c *Client) runSession(work context.Context) error {
	c.mu.Lock()
	c.stats.Attempts++
	c.mu.Unlock()
	c.setState(Connecting, nil)
	ws, err := c.dial(work)
	if err != nil {
		return err
	}
	defer ws.Close()
	c.setState(Proving, nil)
	s := &session{c: c, ws: ws, done: make(chan struct{}), credential: c.pickCredential()}
	// A handshake is given up at once; a session that has begun says goodbye.
	stop := context.AfterFunc(work, func() { ws.Close() })
	err = s.prove()
	if !stop() {
		return context.Cause(work)
	}
	if err != nil {
		if errors.Is(err, ErrHubProof) {
			c.log.Error("hub could not prove itself: nothing was sent", "device", c.id, "url", c.cfg.URL)
			s.sayGoodbye(websocket.ClosePolicyViolation, "hub proof")
		}
		return err
	}
	return s.serve(work)
}
