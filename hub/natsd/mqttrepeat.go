package natsd

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mqttMessages is the stream of what waits for sessions, a consumer for each
// of their subscriptions.
const mqttMessages = "$MQTT_msgs"

// Repeating after a start: a wait that is over at once, and how long the server
// takes to notice (it looks 100 ms after a consumer's wait has changed).
const (
	noWait     = time.Millisecond
	noWaitTime = 300 * time.Millisecond
)

// repeatMQTT has the server send again what clients had not acknowledged when
// it stopped, as soon as they are back and before anything new, as MQTT 3.1.1
// section 4.4 wants it. By itself it would wait until 30 s after it sent it
// last, and send new messages first.
func repeatMQTT(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, mqttMessages)
	if err != nil {
		return err
	}
	var waiting []jetstream.ConsumerConfig
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if info.NumAckPending > 0 && info.Config.DeliverSubject != "" {
			waiting = append(waiting, info.Config)
		}
	}
	if err := list.Err(); err != nil || len(waiting) == 0 {
		return err
	}
	for _, c := range waiting {
		c.AckWait = noWait
		if _, err := js.UpdatePushConsumer(ctx, mqttMessages, c); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Name, err)
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(noWaitTime):
	}
	for _, c := range waiting {
		if _, err := js.UpdatePushConsumer(ctx, mqttMessages, c); err != nil {
			return fmt.Errorf("consumer %s: %w", c.Name, err)
		}
	}
	return nil
}
