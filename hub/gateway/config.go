package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/tetherline/tetherline/hub/session"
)

// Config of a gateway. 0 means the default.
type Config struct {
	Deps *session.Deps
	// AllowedOrigins are exact origins ("https://host[:port]") of browsers
	// that may connect. Devices send none; nil: every request with an Origin
	// is refused.
	AllowedOrigins []string
	// AllowUnbound accepts devices without channel binding: for a listener
	// behind a TLS-terminating proxy, and for nothing else.
	AllowUnbound bool
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	MaxSessions          int     // connections in all, from the upgrade on; 0: 100,000
	MaxHandshakes        int     // that have not proved themselves; 0: 2,000
	MaxHandshakesPerAddr int     // of one address; 0: half of MaxHandshakes
	AddrRate             float64 // failed attempts a second of one address, sustained; 0: 50
	AddrBurst            int     // and at once; 0: MaxHandshakes, or 20 s of AddrRate where that is more
	Metrics              *Metrics
	Logger               *slog.Logger // nil: slog.Default()
}

func (c Config) withDefaults() (Config, error) {
	if c.Deps == nil {
		return c, errors.New("gateway: Deps is needed")
	}
	setDefault(&c.MaxSessions, 100_000)
	setDefault(&c.MaxHandshakes, 2000)
	setDefault(&c.MaxHandshakesPerAddr, max(c.MaxHandshakes/2, 1))
	setDefault(&c.AddrRate, 50)
	setDefault(&c.AddrBurst, max(c.MaxHandshakes, int(20*c.AddrRate)))
	if c.MaxSessions < 1 || c.MaxHandshakes < 1 || c.MaxHandshakesPerAddr < 1 || c.AddrBurst < 1 {
		return c, errors.New("gateway: limits must be 1 or more")
	}
	if c.AddrRate < 0.001 || c.AddrRate > 1e6 {
		return c, fmt.Errorf("gateway: attempts a second of an address must be 0.001 to 1e6, not %v", c.AddrRate)
	}
	if c.Metrics == nil {
		c.Metrics = new(Metrics)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func setDefault[T int | float64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
