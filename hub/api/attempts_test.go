package api

import (
	"net/netip"
	"testing"
	"time"
)

func TestAttempts(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var a attempts
	a.init(func() time.Time { return now })
	spend := func(addr string) bool {
		ok, wait := a.spend(netip.MustParseAddr(addr))
		if ok != (wait == 0) {
			t.Errorf("%s: %v, wait %v", addr, ok, wait)
		}
		return ok
	}
	for range attemptBurst {
		if !spend("192.0.2.1") {
			t.Fatal("refused within the burst")
		}
	}
	if spend("192.0.2.1") || spend("::ffff:192.0.2.1") {
		t.Error("the burst does not end")
	}
	now = now.Add(attemptEvery)
	if !spend("192.0.2.1") || spend("192.0.2.1") {
		t.Error("one attempt comes back after a while, not more")
	}
	for range attemptBurst {
		spend("2001:db8::1")
	}
	if spend("2001:db8::ffff:2") {
		t.Error("an address of the same IPv6 network has a budget of its own")
	}
	if !spend("2001:db8:0:1::1") {
		t.Error("another IPv6 network has none")
	}
}

// The memory is bounded: whoever comes when it is full shares one budget,
// until others are forgotten.
func TestAttemptsAreBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var a attempts
	a.init(func() time.Time { return now })
	addr := netip.MustParseAddr("10.0.0.0")
	refused := 0
	for range 2 * maxAddresses {
		addr = addr.Next()
		if ok, _ := a.spend(addr); !ok {
			refused++
		}
	}
	if len(a.byAddr) > maxAddresses+1 || refused != maxAddresses-attemptBurst {
		t.Errorf("%d addresses kept, %d refused", len(a.byAddr), refused)
	}
	now = now.Add(attemptEvery + time.Second)
	if ok, _ := a.spend(addr.Next()); !ok || len(a.byAddr) > 2 {
		t.Errorf("after a while: %v, %d addresses kept", ok, len(a.byAddr))
	}
}
