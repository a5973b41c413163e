package gateway_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/gateway"
)

// What one address takes of the places for strangers, and what it fails,
// keeps no other address out.
func TestOneAddressKeepsNoOtherOut(t *testing.T) {
	h := startHub(t, options{gateway: gateway.Config{
		MaxHandshakes: 8, MaxHandshakesPerAddr: 2, AddrRate: 0.001, AddrBurst: 2,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}})
	dial := func(from string) (status int) {
		ws, resp, err := h.dialer().Dial("wss://"+h.addr+device.Path, http.Header{"X-Forwarded-For": {from}})
		if err == nil {
			t.Cleanup(func() { _ = ws.Close() })
		}
		if resp == nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	for i, want := range []int{101, 101, 429, 429} {
		if got := dial("192.0.2.1"); got != want {
			t.Errorf("connection %d of the greedy address: %d, want %d", i+1, got, want)
		}
	}
	if got := dial("192.0.2.2"); got != 101 {
		t.Errorf("another address: %d, want 101", got)
	}
	// All who have one IPv6 subscriber's /64 are one.
	for i, want := range []int{101, 101, 429} {
		if got := dial("2001:db8::" + string(rune('1'+i))); got != want {
			t.Errorf("address %d of a /64: %d, want %d", i+1, got, want)
		}
	}
}
