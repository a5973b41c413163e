package api

import (
	"net/netip"
	"sync"
	"time"
)

// Wrong tokens of one address: this many at once, then one every so often.
// Right tokens are never held up by them: a token has 256 random bits, so the
// limit guards the hub's time and its log, not the tokens.
const (
	attemptBurst = 10
	attemptEvery = 6 * time.Second
	// maxAddresses bounds the memory; further addresses share one budget.
	maxAddresses = 8192
)

// attempts counts wrong tokens by address.
type attempts struct {
	now func() time.Time

	mu     sync.Mutex
	byAddr map[netip.Prefix]time.Time // when the budget is whole again
	swept  time.Time                  // when forget last looked at all of them
}

func (a *attempts) init(now func() time.Time) {
	a.now = now
	a.byAddr = make(map[netip.Prefix]time.Time)
}

// spend takes one wrong token of an address. With false its budget is gone,
// and the next try is worth it after wait.
func (a *attempts) spend(addr netip.Addr) (ok bool, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	key := network(addr)
	whole, known := a.byAddr[key]
	if !known && len(a.byAddr) >= maxAddresses {
		a.forget(now)
		if len(a.byAddr) >= maxAddresses {
			key = netip.Prefix{}
			whole = a.byAddr[key]
		}
	}
	if whole.Before(now) {
		whole = now
	}
	if over := whole.Add(attemptEvery).Sub(now) - attemptBurst*attemptEvery; over > 0 {
		return false, over
	}
	a.byAddr[key] = whole.Add(attemptEvery)
	return true, 0
}

// forget drops the addresses whose budget is whole. It looks no more often
// than one can become so.
func (a *attempts) forget(now time.Time) {
	if now.Sub(a.swept) < attemptEvery {
		return
	}
	a.swept = now
	for key, whole := range a.byAddr {
		if !whole.After(now) {
			delete(a.byAddr, key)
		}
	}
}

// network is what one party has: an IPv4 address, or 64 bits of IPv6.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
