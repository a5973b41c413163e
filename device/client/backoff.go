package client

import (
	"math/rand/v2"
	"time"
)

// backoff is exponential with full jitter: each wait is random between 0 and a
// bound that doubles from min to max.
type backoff struct {
	min, max time.Duration
	attempts int // since the last stable session
}

func (b *backoff) next() time.Duration {
	bound := b.max
	if b.attempts < 30 && b.min<<b.attempts < b.max && b.min<<b.attempts > 0 {
		bound = b.min << b.attempts
	}
	b.attempts++
	return 1 + rand.N(bound)
}

// after is the hub's own wish, and up to a tenth more, so that those who were
// turned away together do not come back together.
func (b *backoff) after(wish time.Duration) time.Duration {
	b.attempts++
	return wish + rand.N(wish/10+time.Second)
}

// atLeast makes the next waits as if that many attempts had failed.
func (b *backoff) atLeast(attempts int) { b.attempts = max(b.attempts, attempts) }

func (b *backoff) reset() { b.attempts = 0 }
