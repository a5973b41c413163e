package mqttbridge

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// A broker that sends messages before it has let the hub in, or though it has
// not, is left at once. Nothing of them is taken, and nobody waits for it, who
// asks how it stands least of all.
func TestMessagesBeforeTheHubIsLetIn(t *testing.T) {
	for name, tc := range map[string]struct{ answer, want string }{
		"no answer": {"", "before it has let the hub in"},
		"refused":   {"\x20\x02\x00\x05", "refuses user or password"},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			early := append([]byte(tc.answer), publishPacket(t, "j/good", 1, []byte(`{"n":1}`))...)
			go func() {
				defer close(served)
				for {
					conn, err := broker.Accept()
					if err != nil {
						return
					}
					_ = conn.SetDeadline(time.Now().Add(mqtttest.Patience))
					if _, err := packets.ReadPacket(conn); err == nil {
						_, _ = conn.Write(early)
						_, _ = packets.ReadPacket(conn) // until the hub leaves
					}
					_ = conn.Close()
				}
			}()
			defer func() { _ = broker.Close(); <-served }()
			r := newRig(t)
			b, stop := r.bridge("tcp://"+broker.Addr().String(), hostileConfig)
			eventually(t, "the hub leaves the broker and says why", func() bool { return strings.Contains(b.Brokers()[0].Error, tc.want) })
			if s := b.Brokers()[0]; s.Messages != 0 {
				t.Errorf("%d messages are taken", s.Messages)
			}
			eventually(t, "the gear of the config is allowed", func() bool { g, ok := b.seenGear("raw", "good"); return ok && g.DeviceID != "" })
			stop()
		})
	}
}
