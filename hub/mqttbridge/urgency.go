package mqttbridge

import (
	"sync/atomic"
	"time"
)

// urgency is that an answer is awaited. All methods may run at once.
type urgency struct {
	now  atomic.Bool
	word chan struct{} // has room for one
}

func newUrgency() *urgency { return &urgency{word: make(chan struct{}, 1)} }

func (u *urgency) set(now bool) {
	if u.now.Swap(now) == now || !now {
		return
	}
	select {
	case u.word <- struct{}{}:
	default:
	}
}

// sleep for d, or until there is an urgency.
func (u *urgency) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-u.word: // perhaps of an earlier one
	}
}
