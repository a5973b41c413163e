package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr is where a request comes from: the peer, or, behind a trusted
// proxy, the last address in X-Forwarded-For that is not a trusted proxy
// itself. What a client writes into the header stands before that.
func (g *Gateway) clientAddr(r *http.Request) (addr netip.Addr, text string) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, r.RemoteAddr
	}
	addr = peer.Addr().Unmap()
	if !g.trusted(addr) {
		return addr, r.RemoteAddr
	}
	text = r.RemoteAddr
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
		text = addr.String()
		if !g.trusted(addr) {
			break
		}
	}
	return addr, text
}

// ClientAddr is where a request of this gateway's listener comes from, for
// other handlers there.
func (g *Gateway) ClientAddr(r *http.Request) netip.Addr {
	addr, _ := g.clientAddr(r)
	return addr
}

func (g *Gateway) trusted(a netip.Addr) bool {
	for _, p := range g.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// limitKey is what limits by address count by: an IPv4 address, or the /64
// that one IPv6 subscriber has.
func limitKey(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// connKey is limitKey of a connection's peer.
func connKey(c net.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return limitKey(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}
