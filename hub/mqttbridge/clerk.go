package mqttbridge

import (
	"context"
	"sync"
	"time"
)

// clerkTimeout bounds one errand.
const clerkTimeout = 10 * time.Second

// clerk does what writes to the registry, one after the other, so that no
// broker's worker waits for it. What waits is bounded by the gear there is:
// each piece has at most an allowance and a description under way.
type clerk struct {
	wake chan struct{} // has room for one word

	mu      sync.Mutex
	errands []func(ctx context.Context)
}

func (c *clerk) init() { c.wake = make(chan struct{}, 1) }

func (c *clerk) do(f func(ctx context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errands = append(c.errands, f)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends. What is left then is not done.
func (c *clerk) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		errands := c.errands
		c.errands = nil
		c.mu.Unlock()
		for _, f := range errands {
			if ctx.Err() != nil {
				return
			}
			one, cancel := context.WithTimeout(ctx, clerkTimeout)
			f(one)
			cancel()
		}
	}
}
