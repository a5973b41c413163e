package gateway

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// maxAddresses bounds the memory of addresses; the one that was quiet for
// longest is forgotten first.
const maxAddresses = 16 << 10

// admission bounds the connections of strangers: those that have not proved
// themselves. An attempt takes a token of its address, and a device that
// proves itself gives it back: a fleet behind one address is never limited by
// it, guessing is.
type admission struct {
	max, maxPerAddr int
	rate            float64 // tokens a second
	burst           float64

	mu        sync.Mutex
	underWay  int
	addresses map[netip.Addr]*list.Element // of *address
	recent    *list.List                   // the newest first
}

type address struct {
	addr     netip.Addr
	underWay int
	tokens   float64
	at       time.Time // when tokens was so
}

func newAdmission(c *Config) *admission {
	return &admission{
		max: c.MaxHandshakes, maxPerAddr: c.MaxHandshakesPerAddr,
		rate: c.AddrRate, burst: float64(c.AddrBurst),
		addresses: make(map[netip.Addr]*list.Element), recent: list.New(),
	}
}

// enter reserves a place for a stranger. When ok, leave must follow.
func (a *admission) enter(addr netip.Addr, now time.Time) (refusal Refusal, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.touch(addr, now)
	switch {
	case x.tokens < 1:
		return TooManyAttempts, false
	case x.underWay >= a.maxPerAddr:
		return AddressFull, false
	case a.underWay >= a.max:
		return HandshakesFull, false
	}
	x.tokens--
	x.underWay++
	a.underWay++
	return 0, true
}

// leave frees the place of a stranger who has proved himself or is gone.
func (a *admission) leave(addr netip.Addr, proved bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.underWay--
	e := a.addresses[addr]
	if e == nil {
		return
	}
	x := e.Value.(*address)
	x.underWay--
	if proved {
		x.tokens = min(x.tokens+1, a.burst)
	}
}

// touch is the address with its tokens as of now. mu is held.
func (a *admission) touch(addr netip.Addr, now time.Time) *address {
	if e := a.addresses[addr]; e != nil {
		a.recent.MoveToFront(e)
		x := e.Value.(*address)
		x.tokens = min(a.burst, x.tokens+now.Sub(x.at).Seconds()*a.rate)
		x.at = now
		return x
	}
	if a.recent.Len() >= maxAddresses {
		a.forgetOne()
	}
	x := &address{addr: addr, tokens: a.burst, at: now}
	a.addresses[addr] = a.recent.PushFront(x)
	return x
}

// forgetOne drops the address that was quiet for longest and has nothing
// under way: there is one as long as max is below maxAddresses; else the
// oldest goes, and its places are counted in total only.
func (a *admission) forgetOne() {
	oldest := a.recent.Back()
	for e := oldest; e != nil; e = e.Prev() {
		if e.Value.(*address).underWay == 0 {
			oldest = e
			break
		}
	}
	delete(a.addresses, oldest.Value.(*address).addr)
	a.recent.Remove(oldest)
}
