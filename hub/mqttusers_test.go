package hub_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// A changed users file counts without a restart: who is new comes in, who is
// gone or has another password or other topics is put out, and the others
// notice nothing. A file that does not load changes nothing.
func TestMQTTUsersAreReloaded(t *testing.T) {
	t.Parallel()
	var file string
	_, e := startMQTTHub(t, mqttUsersFile(t, "stays", "goes", "changes"), func(c *hub.Config) { file = c.MQTTUsers })
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]mqtt.Client{}
	for _, name := range []string{"stays", "goes", "changes"} {
		clients[name] = e.Dial(t, name, mqtttest.As(name, name))
	}
	entries := strings.SplitAfter(string(before), "subscribe: [gear/%u/#]\n")
	after := entries[0] + strings.Replace(entries[2], "publish: [gear/%u/#]", "publish: [other/%u/#]", 1) + string(mqttUsersFile(t, "new"))
	writeFile(t, file, []byte("- user: {")) // half written
	replace := func(text string) {
		writeFile(t, file+".new", []byte(text))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace(after)
	hubtest.Eventually(t, "the changed users are put out", func() bool {
		return !clients["goes"].IsConnectionOpen() && !clients["changes"].IsConnectionOpen()
	})
	if !clients["stays"].IsConnectionOpen() {
		t.Error("a user who has not changed was put out")
	}
	refusedWith(t, e, errBadPassword, "goes", mqtttest.As("goes", "goes"))
	own := mqtttest.Subscribe(t, e.Dial(t, "new", mqtttest.As("new", "new")), "gear/new/#", 1)
	mqtttest.Publish(t, e.Dial(t, "new2", mqtttest.As("new", "new")), "gear/new/x", 1, false, "hello")
	mqtttest.Next(t, own)
	e.Dial(t, "changes", mqtttest.As("changes", "changes"))
}

// What is wrong in a users file is named, and stops the start.
func TestMQTTUsersFileIsChecked(t *testing.T) {
	hash := weakHash(t, "x")
	for name, tt := range map[string]struct{ file, want string }{
		"no yaml":        {"- {", "users.yaml"},
		"a map":          {"user: a", "users.yaml"},
		"unknown key":    {"- user: a\n  pasword-hash: x\n", "pasword-hash"},
		"no user":        {"- password-hash: x\n  publish: [a]\n", "user"},
		"hub's own":      {"- user: $bridge\n  password-hash: " + hash + "\n  publish: [a]\n", "hub's own"},
		"no hash":        {"- user: a\n  publish: [a]\n", "hubd mqtt-password"},
		"plain password": {"- user: a\n  password-hash: secret\n  publish: [a]\n", "hubd mqtt-password"},
		"costly hash":    {"- user: a\n  password-hash: " + strings.Replace(hash, "$04$", "$15$", 1) + "\n  publish: [a]\n", "cost 15"},
		"no rights":      {"- user: a\n  password-hash: " + hash + "\n", "neither publish nor subscribe: for everything write"},
		"empty keys":     {"- user: a\n  password-hash: " + hash + "\n  publish:\n  subscribe:\n", "for nothing, publish: []"},
		"twice":          {strings.Repeat("- user: a\n  password-hash: "+hash+"\n  publish: [a]\n", 2), "twice"},
		"bad filter":     {"- user: a\n  password-hash: " + hash + "\n  publish: [a/#/b]\n", "a/#/b"},
		"own topics":     {"- user: a\n  password-hash: " + hash + "\n  subscribe: [$SYS/#]\n", "$SYS/#"},
		"wild name":      {"- user: '+'\n  password-hash: " + hash + "\n  publish: [a/%u/b]\n", "%u"},
		"slash name":     {"- user: a/b\n  password-hash: " + hash + "\n  publish: [a/%u]\n", "%u"},
		"dot name":       {"- user: a.b\n  password-hash: " + hash + "\n  publish: [a/%u]\n", "%u"},
		"star name":      {"- user: '*'\n  password-hash: " + hash + "\n  publish: [a/%u]\n", "%u"},
		"empty entry":    {"-\n", "entry 1"},
	} {
		cfg := hubtest.Config(t)
		cfg.MQTTListen = "127.0.0.1:0"
		cfg.MQTTUsers = filepath.Join(t.TempDir(), "users.yaml")
		writeFile(t, cfg.MQTTUsers, []byte(tt.file))
		err := cfg.Check()
		if err == nil || !strings.Contains(err.Error(), "mqtt-users") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q named", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), hash) {
			t.Errorf("%s: the error holds a hash", name)
		}
	}
}

func TestMQTTKeysAreChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*hub.Config)
		want   string
	}{
		"users alone":   {func(c *hub.Config) { c.MQTTUsers = "x" }, "mqtt-listen is not"},
		"no address":    {func(c *hub.Config) { c.MQTTListen = "8883" }, "mqtt-listen"},
		"everywhere":    {func(c *hub.Config) { c.MQTTListen = ":8883" }, "mqtt-users"},
		"lan":           {func(c *hub.Config) { c.MQTTListen = "192.168.1.2:8883" }, "mqtt-users"},
		"external nats": {func(c *hub.Config) { c.MQTTListen, c.NATSURL = "127.0.0.1:0", "nats://127.0.0.1:1" }, "nats-url"},
		"too few bytes": {func(c *hub.Config) { c.MQTTListen, c.MQTTMaxBytes = "127.0.0.1:0", 1 }, "mqtt-max-bytes"},
		"taken":         {func(c *hub.Config) { c.MQTTListen = taken(t) }, "mqtt-listen"},
		"no users file": {func(c *hub.Config) { c.MQTTListen, c.MQTTUsers = "127.0.0.1:0", "/nowhere" }, "mqtt-users"},
	} {
		cfg := hubtest.Config(t)
		tt.change(&cfg)
		if _, err := hub.New(t.Context(), cfg, hub.Options{Logger: hubtest.Logger(t, cfg)}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q named", name, err, tt.want)
		}
	}
}

// taken is an address that somebody listens on until the test ends.
func taken(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// Without a users file, on loopback, everybody may do everything.
func TestMQTTOnLoopbackNeedsNoPassword(t *testing.T) {
	_, e := startMQTTHub(t, nil)
	messages := mqtttest.Subscribe(t, e.Dial(t, "reader"), "#", 1)
	mqtttest.Publish(t, e.Dial(t, "writer", mqtttest.As("anybody", "")), "a/b", 1, false, "hello")
	mqtttest.Next(t, messages)
	refusedWith(t, e, errBadPassword, "x", mqtttest.As("$bridge", "guess"))
}

// Hundreds of connections that never say who they are neither keep gear out
// nor pile up.
func TestMQTTStrangersAreBounded(t *testing.T) {
	t.Parallel()
	h, e := startMQTTHub(t, mqttUsersFile(t, "plug"))
	addr := h.Hub.AddrMQTT().String()
	const strangers = 600
	for i := range strangers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%3 == 0 { // says something that is no end of a handshake
			_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01"))
		}
	}
	plug := mqtt.NewClient(e.Options("plug", mqtttest.As("plug", "plug")))
	t.Cleanup(func() { plug.Disconnect(100) })
	hubtest.Eventually(t, "gear of the same address comes in when the strangers have had their time", func() bool {
		return mqtttest.Wait(t, plug.Connect()) == nil
	})
	if refused := metric(t, h.Endpoint, "tetherline_strangers_refused_total") + metric(t, h.Endpoint, "tetherline_strangers_evicted_total"); refused < 100 {
		t.Errorf("of %d strangers of one address %v were put out", strangers, refused)
	}
}

// TLS 1.1 is too old, and a client that names its protocol by ALPN is no
// stranger.
func TestMQTTBrokerTLS(t *testing.T) {
	h, e := startMQTTHub(t, nil)
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := e.TLS.Clone()
		config.MinVersion, config.MaxVersion, config.NextProtos = version, version, []string{"mqtt"}
		dialer := &net.Dialer{Timeout: time.Minute}
		conn, err := tls.DialWithDialer(dialer, "tcp", h.Hub.AddrMQTT().String(), config)
		if (err == nil) != want {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

// The hub's state and that of MQTT survive together.
func TestMQTTSessionsSurviveAHubRestart(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.MQTTListen = hubtest.FreeAddr(t)
	h := hubtest.Start(t, cfg)
	h.CreateDevice(t, "device")
	e := mqttEndpoint(h)
	reader := e.Dial(t, "reader", mqtttest.Persistent)
	mqtttest.Subscribe(t, reader, "a", 1)
	reader.Disconnect(100)
	writer := e.Dial(t, "writer")
	mqtttest.Publish(t, writer, "a", 1, false, "waits")
	writer.Disconnect(100)
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	h = hubtest.Start(t, cfg)
	if got := mqttEndpoint(h); got.URL != e.URL {
		t.Errorf("the broker is at %s; was at %s", got.URL, e.URL)
	}
	messages := make(chan mqtt.Message, 1)
	e.Dial(t, "reader", mqtttest.Persistent, func(o *mqtt.ClientOptions) {
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { messages <- m })
	})
	if m := mqtttest.Next(t, messages); string(m.Payload()) != "waits" {
		t.Errorf("got %q", m.Payload())
	}
}
