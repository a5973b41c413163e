package mqttbridge

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// sampled is a broker that is to be sampled.
type sampled struct {
	known *BrokerConfig // as the config has it, or as it would
	dial  *BrokerConfig // how it is reached
}

// broker finds out where to listen, and fills in the request's defaults. A
// broker of the config is known by its name and by its address, so that gear
// behind it is not taken for new.
func (s *Sampler) broker(r *SampleRequest) (sampled, error) {
	if r.Duration == 0 {
		r.Duration = DefaultSample
	}
	if len(r.Filters) == 0 {
		r.Filters = []string{"#"}
	}
	if strings.Contains(r.Broker, "://") {
		return s.brokerAt(r)
	}
	if r.User != "" || r.Password != "" {
		return sampled{}, fmt.Errorf("%w: user and password go with an address; the config has those of its brokers", ErrBadSample)
	}
	var names []string
	for i := range s.brokers {
		if s.brokers[i].Name == r.Broker {
			return sampled{&s.brokers[i], &s.brokers[i]}, nil
		}
		names = append(names, s.brokers[i].Name)
	}
	switch {
	case r.Broker == EmbeddedURL && s.embedded != nil:
		b := s.withURL(EmbeddedURL)
		if b == nil {
			b = &BrokerConfig{Name: EmbeddedURL, URL: EmbeddedURL}
		}
		return sampled{b, b}, nil
	case r.Broker == EmbeddedURL:
		return sampled{}, fmt.Errorf("%w: the hub has no broker of its own; give it --mqtt-listen", ErrBadSample)
	case len(names) == 0:
		return sampled{}, ErrNoBridge
	}
	return sampled{}, fmt.Errorf("%w %.80q: there is %s; or name an address, as tcp://host:1883", errNoSuchBroker, r.Broker, strings.Join(names, ", "))
}

// brokerAt is the broker at an address. One of the config is reached as the
// config says, but for a user that the request names.
func (s *Sampler) brokerAt(r *SampleRequest) (sampled, error) {
	asked := &BrokerConfig{Name: brokerName(r.Broker), URL: r.Broker, User: r.User}
	if err := asked.checkAddress(); err != nil {
		return sampled{}, fmt.Errorf("%w: %w", ErrBadSample, err)
	}
	known := s.withURL(r.Broker)
	switch {
	case known == nil:
		return sampled{asked, asked}, nil
	case r.User == "":
		return sampled{known, known}, nil
	case known.URL == EmbeddedURL:
		return sampled{known, asked}, nil
	}
	dial := *known
	dial.User, dial.PasswordFile = r.User, ""
	return sampled{known, &dial}, nil
}

// withURL is the first broker of the config at an address; nil: there is none.
func (s *Sampler) withURL(address string) *BrokerConfig {
	for i := range s.brokers {
		if b := &s.brokers[i]; sameAddress(s.address(b.URL), s.address(address)) {
			return b
		}
	}
	return nil
}

// address is that of the hub's own broker for EmbeddedURL.
func (s *Sampler) address(address string) string {
	if address == EmbeddedURL && s.embedded != nil {
		if own, _, _, _ := s.embedded.Endpoint(); own != "" {
			return own
		}
	}
	return address
}

// sameAddress reports whether two URLs name one listener.
func sameAddress(a, b string) bool {
	if a == b {
		return true
	}
	x, err := url.Parse(a)
	y, other := url.Parse(b)
	if err != nil || other != nil || x.Scheme != y.Scheme || x.Port() != y.Port() {
		return false
	}
	return strings.EqualFold(plainHost(x.Hostname()), plainHost(y.Hostname()))
}

// plainHost has one name for this machine's loopback.
func plainHost(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return "localhost"
	}
	return host
}

var errNoSuchBroker = fmt.Errorf("%w: broker", ErrUnknownGear)

// brokerName proposes a name for the broker at an address: the first part of
// the host's name.
func brokerName(address string) string {
	_, host, _ := strings.Cut(address, "://")
	host, _, _ = strings.Cut(host, ":")
	host, _, _ = strings.Cut(host, ".")
	if !namePattern.MatchString(host) || host == "localhost" || strings.Trim(host, "0123456789") == "" {
		return "mqtt"
	}
	return host
}
