package natsd_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// BenchmarkMQTTPublish publishes with QoS 1 to somebody who listens, a number
// of publishers at once with so many messages in flight each: through the
// embedded broker, which syncs each message, and through Mosquitto, which
// syncs none.
func BenchmarkMQTTPublish(b *testing.B) {
	brokers := map[string]func(b *testing.B) mqtttest.Endpoint{
		"embedded": benchBroker,
		"mosquitto": func(b *testing.B) mqtttest.Endpoint {
			return mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{}).Endpoint
		},
	}
	for _, load := range []struct{ publishers, inFlight int }{{1, 1}, {1, 100}, {20, 10}} {
		for name, start := range brokers {
			b.Run(fmt.Sprintf("%s/%dx%d", name, load.publishers, load.inFlight), func(b *testing.B) {
				e := start(b)
				received := make(chan struct{}, 1<<20)
				token := e.Dial(b, "reader", mqtttest.As("all", "all-pw"), ordered).Subscribe("bench/#", 1, func(mqtt.Client, mqtt.Message) { received <- struct{}{} })
				if err := mqtttest.Wait(b, token); err != nil {
					b.Fatal(err)
				}
				clients := make([]mqtt.Client, load.publishers)
				for i := range clients {
					clients[i] = e.Dial(b, fmt.Sprint("writer", i), mqtttest.As("all", "all-pw"))
				}
				payload := strings.Repeat("x", 200)
				b.ResetTimer()
				var wait sync.WaitGroup
				for i, c := range clients {
					for j := range load.inFlight {
						wait.Go(func() {
							for n := i*load.inFlight + j; n < b.N; n += load.publishers * load.inFlight {
								if token := c.Publish("bench/topic", 1, false, payload); !token.WaitTimeout(mqtttest.Patience) || token.Error() != nil {
									b.Errorf("publish: %v", token.Error())
									return
								}
							}
						})
					}
				}
				wait.Wait()
				for range b.N {
					<-received
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

func benchBroker(b *testing.B) mqtttest.Endpoint {
	node, err := natsd.Start(b.Context(), natsd.Config{Dir: b.TempDir(), Name: "one", MQTT: &natsd.MQTTConfig{}, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	m, err := node.OpenMQTT(natsd.MQTTDoor{Listener: l, Authenticate: users{"all": everything}.authenticate})
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = m.Serve() }()
	b.Cleanup(func() { _ = node.Stop(context.Background()) })
	return mqtttest.Endpoint{URL: "tcp://" + l.Addr().String()}
}
