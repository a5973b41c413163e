package mqttbridge

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// onEachBroker runs a test on Mosquitto and on the embedded broker: the bridge
// is the same on both. url is the broker in the bridge's config, e as gear
// reaches it.
func onEachBroker(t *testing.T, o mqtttest.MosquittoOptions, test func(t *testing.T, r *rig, url string, e mqtttest.Endpoint)) {
	t.Run("mosquitto", func(t *testing.T) {
		b := mqtttest.StartMosquitto(t, o)
		test(t, newRig(t), b.URL, b.Endpoint)
	})
	t.Run("embedded", func(t *testing.T) {
		r := newRigWith(t, natsd.Config{MQTT: &natsd.MQTTConfig{}})
		test(t, r, EmbeddedURL, r.openBroker())
	})
}

// openBroker opens the embedded broker of a rig whose node has it, plaintext,
// for everybody.
func (r *rig) openBroker() mqtttest.Endpoint {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	all := natsd.MQTTRights{Publish: []string{"#"}, Subscribe: []string{"#"}}
	broker, err := r.node.OpenMQTT(natsd.MQTTDoor{
		Listener:     l,
		Authenticate: func(context.Context, string, []byte) (natsd.MQTTRights, bool) { return all, true },
		Fault: func(f natsd.MQTTFault) {
			if b := r.faults.Load(); b != nil {
				b.ClientProblem(f.User, f.ClientID, f.Reason, f.Detail)
			}
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.run(func(context.Context) { // until the node closes it
		if err := broker.Serve(); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { _ = broker.Close() })
	e := mqtttest.Endpoint{URL: "tcp://" + l.Addr().String()}
	r.embedded = &Embedded{
		Endpoint: func() (url, user, password string, config *tls.Config) { return e.URL, "$bridge", "", nil },
		Taken:    func(ctx context.Context, clientID string) error { return broker.Taken(ctx, "$bridge", clientID) },
	}
	return e
}

// dialRaw connects a client without a library, that says what it is told and
// listens to nothing.
func dialRaw(t testing.TB, e mqtttest.Endpoint) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.URL, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, "raw"
	if err := hello.Write(conn); err != nil {
		t.Fatal(err)
	}
	if answer, err := packets.ReadPacket(conn); err != nil || answer.(*packets.ConnackPacket).ReturnCode != 0 {
		t.Fatalf("the broker answers %v, %v", answer, err)
	}
	heard := make(chan struct{})
	go func() { defer close(heard); _, _ = io.Copy(io.Discard, conn) }()
	t.Cleanup(func() { _ = conn.Close(); <-heard })
	return conn
}
