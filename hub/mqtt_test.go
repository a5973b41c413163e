package hub_test

import (
	"crypto/tls"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// mqttEndpoint is the embedded broker of a hub, with TLS by its own CA.
func mqttEndpoint(h *hubtest.Hub) mqtttest.Endpoint {
	return mqtttest.Endpoint{
		URL: "ssl://" + h.Hub.AddrMQTT().String(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.Roots, ServerName: "localhost"},
	}
}

// weakHash is a hash that is checked fast.
func weakHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// mqttUsersFile is one with a user for each name: its password is its name,
// and it may do everything below gear/ and its name.
func mqttUsersFile(t testing.TB, names ...string) []byte {
	t.Helper()
	var b strings.Builder
	for _, name := range names {
		b.WriteString("- user: " + name + "\n  password-hash: " + weakHash(t, name) + "\n  publish: [gear/%u/#]\n  subscribe: [gear/%u/#]\n")
	}
	return []byte(b.String())
}

func startMQTTHub(t testing.TB, users []byte, change ...func(*hub.Config)) (*hubtest.Hub, mqtttest.Endpoint) {
	t.Helper()
	cfg := hubtest.Config(t)
	cfg.MQTTListen = "127.0.0.1:0"
	if users != nil {
		cfg.MQTTUsers = t.TempDir() + "/users.yaml"
		writeFile(t, cfg.MQTTUsers, users)
	}
	for _, c := range change {
		c(&cfg)
	}
	h := hubtest.Start(t, cfg)
	return h, mqttEndpoint(h)
}

func refusedWith(t testing.TB, e mqtttest.Endpoint, want error, clientID string, with ...mqtttest.Option) {
	t.Helper()
	if err := mqtttest.Wait(t, mqtt.NewClient(e.Options(clientID, with...)).Connect()); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("%q: %v; want %v", clientID, err, want)
	}
}

// With a users file nobody comes in without a password that fits, and each
// has the topics that the file gives it. The hub's own certificate and CA
// stand for the broker.
func TestMQTTUsersAndTheirTopics(t *testing.T) {
	t.Parallel()
	h, e := startMQTTHub(t, mqttUsersFile(t, "plug", "lamp"))
	refusedWith(t, e, errBadPassword, "x")
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("plug", "lamp"))
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("plug", ""))
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("nobody", "nobody"))
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("$bridge", ""))
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("plug", strings.Repeat("plug", 20)))
	stranger := mqtttest.Endpoint{URL: e.URL, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}
	if err := mqtttest.Wait(t, mqtt.NewClient(stranger.Options("x", mqtttest.As("plug", "plug"))).Connect()); err == nil {
		t.Error("a client that does not trust the hub's CA has connected")
	}

	plug, lamp := e.Dial(t, "c", mqtttest.As("plug", "plug")), e.Dial(t, "c", mqtttest.As("lamp", "lamp"))
	own := mqtttest.Subscribe(t, plug, "gear/plug/#", 1)
	mqtttest.Publish(t, lamp, "gear/plug/state", 1, false, "forged")
	mqtttest.Publish(t, plug, "gear/plug/state", 1, false, "own")
	if m := mqtttest.Next(t, own); string(m.Payload()) != "own" {
		t.Errorf("plug got %q on %s", m.Payload(), m.Topic())
	}
	for name, want := range map[string]float64{
		"tetherline_mqtt_clients": 2, `tetherline_mqtt_connects_total{outcome="accepted"}`: 2,
		`tetherline_mqtt_connects_total{outcome="wrong_password"}`: 6,
	} {
		if got := metric(t, h.Endpoint, name); got != want {
			t.Errorf("%s is %v; want %v", name, got, want)
		}
	}
	hubtest.Eventually(t, "messages are counted", func() bool {
		return metric(t, h.Endpoint, "tetherline_mqtt_received_messages_total") == 2 && metric(t, h.Endpoint, "tetherline_mqtt_sent_messages_total") == 1
	})
}

var errBadPassword = packets.ErrorRefusedBadUsernameOrPassword
