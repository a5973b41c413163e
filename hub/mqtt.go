package hub

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/tetherline/tetherline/hub/gateway"
	"github.com/tetherline/tetherline/hub/natsd"
)

// mqttStrangers bounds the connections to the MQTT listener that have not
// said who they are, at once. Of one address there may be half of it.
const mqttStrangers = 512

// mqttBridgeUser is the hub's own user of its broker. No name in the users
// file begins with "$".
const mqttBridgeUser = "$bridge"

// everyTopic is what a user without bounds may do. The births of Sparkplug
// that the broker keeps below "$sparkplug/" are not among it: with a right to
// them they would come with a subscription to "#" too.
var everyTopic = natsd.MQTTRights{Publish: []string{"#"}, Subscribe: []string{"#"}}

// mqttBroker is the embedded MQTT broker: the embedded NATS server's, behind
// the hub's own TLS, bounds and users.
type mqttBroker struct {
	*natsd.MQTT
	listener *gateway.Listener
	users    *mqttUsers // nil: everybody may do everything, on loopback
	password string     // of mqttBridgeUser, made at each start
}

func (c *Config) checkMQTT() error {
	if c.MQTTListen == "" {
		if c.MQTTUsers != "" {
			return bad("mqtt-users", "is set, but mqtt-listen is not")
		}
		return nil
	}
	if c.NATSURL != "" {
		return bad("mqtt-listen", "the embedded MQTT broker is part of the embedded NATS server, which does not run with nats-url: run a broker, as Mosquitto, and name it to the bridge")
	}
	if c.MQTTMaxBytes < natsd.MinMQTTStore {
		return bad("mqtt-max-bytes", "%d is under 16 MiB (%d)", c.MQTTMaxBytes, natsd.MinMQTTStore)
	}
	host, port, err := net.SplitHostPort(c.MQTTListen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return bad("mqtt-listen", "%q is no address; it takes host:port, as 0.0.0.0:8883", c.MQTTListen)
	}
	if ip, err := netip.ParseAddr(host); c.MQTTUsers == "" && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return bad("mqtt-listen", "%q can be reached from other machines, where every MQTT client needs a user and a password: name them in a file and set mqtt-users to it; or listen on 127.0.0.1", c.MQTTListen)
	}
	if c.MQTTUsers != "" {
		if _, err := readMQTTUsers(c.MQTTUsers); err != nil {
			return bad("mqtt-users", "%v", err)
		}
	}
	return nil
}

// mqttConfig is that of the embedded server; nil: no broker.
func (c *Config) mqttConfig() *natsd.MQTTConfig {
	if c.MQTTListen == "" {
		return nil
	}
	return &natsd.MQTTConfig{MaxStore: c.MQTTMaxBytes}
}

// openMQTT binds the MQTT listener. Nobody is served before Run.
func (h *Hub) openMQTT(context.Context) error {
	if h.cfg.MQTTListen == "" {
		return nil
	}
	b := &mqttBroker{password: rand.Text()}
	if h.cfg.MQTTUsers != "" {
		users, err := openMQTTUsers(h.cfg.MQTTUsers, h.log)
		if err != nil {
			return bad("mqtt-users", "%v", err)
		}
		b.users = users
	}
	inner, err := net.Listen("tcp", h.cfg.MQTTListen)
	if err != nil {
		return bad("mqtt-listen", "%v", err)
	}
	b.listener = gateway.NewListener(inner, gateway.ListenerConfig{MaxStrangers: mqttStrangers})
	b.MQTT, err = h.node.OpenMQTT(natsd.MQTTDoor{
		Listener:     b.listener,
		TLS:          &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: h.certs.get},
		Authenticate: b.authenticate,
		Known:        func(c net.Conn) { b.listener.ConnState(c, http.StateHijacked) },
		Exempt:       func(user string) bool { return user == mqttBridgeUser },
		Fault:        h.mqttFault,
	})
	if err != nil {
		_ = inner.Close()
		return err
	}
	h.mqtt = b
	h.onClose("MQTT broker", func(context.Context) error {
		if err := b.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	if b.users != nil {
		h.onClose("MQTT users", h.goRun("MQTT users", func(ctx context.Context) error {
			b.users.watch(ctx, b.Disconnect)
			return nil
		}))
	}
	return nil
}

// mqttFault puts what a client did where operators look for the troubles of
// gear: hubctl bridge ls.
func (h *Hub) mqttFault(f natsd.MQTTFault) {
	if h.bridge != nil {
		h.bridge.ClientProblem(f.User, f.ClientID, f.Reason, f.Detail)
	}
}

// serveMQTT runs the broker until it is closed.
func (h *Hub) serveMQTT() {
	if h.mqtt == nil {
		return
	}
	h.log.Info("listening", "address", h.mqtt.Addr().String(), "for", "MQTT clients")
	h.background.Go(func() {
		if err := h.mqtt.Serve(); err != nil {
			h.fail(fmt.Errorf("serve MQTT clients: %w", err))
		}
	})
}

// authenticate is for natsd.MQTTDoor.
func (b *mqttBroker) authenticate(ctx context.Context, user string, password []byte) (natsd.MQTTRights, bool) {
	if user == mqttBridgeUser {
		return everyTopic, subtle.ConstantTimeCompare(password, []byte(b.password)) == 1
	}
	if b.users == nil {
		return everyTopic, true
	}
	return b.users.authenticate(ctx, user, password)
}

// AddrMQTT is the address of the embedded MQTT broker; nil: there is none.
func (h *Hub) AddrMQTT() net.Addr {
	if h.mqtt == nil {
		return nil
	}
	return h.mqtt.Addr()
}

// mqttEndpoint is how the hub itself reaches its broker: a URL, a user who
// may do everything, and a TLS config that takes the certificate which the
// broker shows now, whoever has issued it, and no other. It must not be
// called where there is no broker.
func (h *Hub) mqttEndpoint() (url, user, password string, config *tls.Config) {
	addr := h.mqtt.Addr().(*net.TCPAddr).AddrPort()
	ip := addr.Addr()
	switch {
	case ip.Is4() && ip.IsUnspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip.IsUnspecified():
		ip = netip.IPv6Loopback()
	}
	return "ssl://" + netip.AddrPortFrom(ip, addr.Port()).String(), mqttBridgeUser, h.mqtt.password, h.certs.pinned()
}
