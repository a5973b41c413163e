package hub

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
)

// operatorURLFile says where the operator API is, for programs on this
// machine that know the data folder.
const operatorURLFile = "operator.url"

// writeOperatorURL writes it anew at each start: a port of 0 is another one
// then. It stays when the hub stops; who asks there is told that nobody is.
func (h *Hub) writeOperatorURL() error {
	path := filepath.Join(h.cfg.Data, operatorURLFile)
	if err := os.WriteFile(path+".new", []byte(h.operatorURL()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the operators' address: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the operators' address: %w", err)
	}
	return nil
}

// operatorURL is what operators on this machine dial, by a name that is in
// the certificate.
func (h *Hub) operatorURL() string {
	listen := h.cfg.Listen
	if h.cfg.OperatorListen != "" {
		listen = h.cfg.OperatorListen
	}
	address := h.AddrOperators().(*net.TCPAddr)
	host, _, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	// The self-made certificate has the addresses; one of an authority has
	// the name that devices dial.
	if public, err := url.Parse(h.cfg.PublicURL); err == nil && h.cfg.TLSCert != "" && public.Hostname() != "" {
		host = public.Hostname()
	}
	return "https://" + net.JoinHostPort(host, fmt.Sprint(address.Port))
}
