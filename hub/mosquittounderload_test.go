package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// mosquittoUnderLoad is what hubUnderLoad is, by way of Mosquitto: every
// device answers on a topic of the operator who asked.
func mosquittoUnderLoad(b *testing.B) underLoad {
	broker := mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{TLS: true, MaxInflight: 20_000, Lines: []string{"connection_messages false"}})
	devices := dialMany(b, broker, "dev", underLoadDevices)
	desks := dialMany(b, broker, "operator", underLoadDesks)
	var ends sync.Map // number of a command to chan time.Time
	for i, desk := range desks {
		subscribeTo(b, desk, fmt.Sprintf("stat/%d/+", i), func(_ mqtt.Client, m mqtt.Message) {
			if end, ok := ends.LoadAndDelete(string(m.Payload())); ok {
				end.(chan time.Time) <- time.Now()
			}
		})
	}
	for i, device := range devices {
		subscribeTo(b, device, fmt.Sprintf("cmnd/%d/+", i), func(c mqtt.Client, m mqtt.Message) {
			desk := m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]
			c.Publish(fmt.Sprintf("stat/%s/%d", desk, i), 1, false, m.Payload())
		})
	}
	ctx, cancel := context.WithTimeout(b.Context(), *commandTime)
	defer cancel()
	var rows atomic.Int64
	var publishing sync.WaitGroup
	for i, device := range devices {
		publishing.Go(func() { rows.Add(publishMessages(ctx, device, fmt.Sprintf("tele/%d", i))) })
	}
	u := underLoad{name: "mosquitto"}
	u.command(ctx, b, broker.PID(), func(ctx context.Context, n int) (time.Duration, error) {
		began := time.Now()
		key, end := strconv.Itoa(n), make(chan time.Time, 1)
		ends.Store(key, end)
		desk := n % len(desks)
		desks[desk].Publish(fmt.Sprintf("cmnd/%d/%d", n%len(devices), desk), 1, false, key)
		select {
		case at := <-end:
			return at.Sub(began), nil
		case <-ctx.Done():
			return 0, errors.New("no answer through mosquitto")
		}
	})
	publishing.Wait()
	u.rows = float64(rows.Load()) / u.seconds
	for _, c := range append(devices, desks...) {
		c.Disconnect(0)
	}
	broker.Stop(b)
	return u
}

// publishMessages publishes the rows of a device at QoS 1, a batch at a time,
// and returns how many rows Mosquitto has acknowledged.
func publishMessages(ctx context.Context, c mqtt.Client, topic string) (rows int64) {
	tick := time.NewTicker(underLoadBatch * time.Second / underLoadRowsEach)
	defer tick.Stop()
	for n := 0; ; n += underLoadBatch {
		select {
		case <-ctx.Done():
			return rows
		case <-tick.C:
		}
		text := []byte{'['}
		for i := range underLoadBatch {
			if i > 0 {
				text = append(text, ',')
			}
			text = fmt.Appendf(text, `{"t":%d,"n":%d,"celsius":21.5}`, time.Now().UnixMicro(), n+i)
		}
		if patient(c.Publish(topic, 1, false, append(text, ']'))) == nil {
			rows += underLoadBatch
		}
	}
}

// dialMany connects clients side by side.
func dialMany(b *testing.B, broker *mqtttest.Broker, name string, n int) []mqtt.Client {
	b.Helper()
	clients := make([]mqtt.Client, n)
	var dialling errgroup.Group
	dialling.SetLimit(32)
	for i := range clients {
		clients[i] = mqtt.NewClient(broker.Options(fmt.Sprint(name, "-", i)))
		dialling.Go(func() error { return patient(clients[i].Connect()) })
	}
	if err := dialling.Wait(); err != nil {
		b.Fatalf("connect to mosquitto: %v", err)
	}
	b.Cleanup(func() {
		for _, c := range clients {
			c.Disconnect(0)
		}
	})
	return clients
}

func subscribeTo(b *testing.B, c mqtt.Client, filter string, handle mqtt.MessageHandler) {
	b.Helper()
	if err := patient(c.Subscribe(filter, 1, handle)); err != nil {
		b.Fatalf("subscribe to %s: %v", filter, err)
	}
}
