package natsd

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// takenPause is between two looks whether a client has acknowledged.
const takenPause = 50 * time.Millisecond

// Taken waits until the client of that user and id has acknowledged all
// messages of QoS 1 and 2 that the broker keeps for its session now, under
// whatever subscription. With a subscription that ends, the server drops what
// waits under it. An error is that of ctx, or of the server: it is restarting.
func (m *MQTT) Taken(ctx context.Context, user, clientID string) error {
	return m.waiting(ctx, sessionName(user, clientID))
}

// takenMQTT is Taken of a session.
func (e *embedded) takenMQTT(ctx context.Context, session string) error {
	return e.inMQTT(func(_ *nats.Conn, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, mqttMessages)
		if err != nil {
			return err
		}
		last := stream.CachedInfo().State.LastSeq
		kept, err := readSession(ctx, js, session)
		if err != nil {
			return fmt.Errorf("read the session: %w", err)
		}
		for _, c := range kept.Consumers {
			if err := awaitTaken(ctx, stream, c.Name, last); err != nil {
				return fmt.Errorf("consumer %s: %w", c.Name, err)
			}
		}
		return nil
	})
}

// awaitTaken waits until all up to a message of the stream is acknowledged, as
// far as it is a consumer's.
func awaitTaken(ctx context.Context, stream jetstream.Stream, name string, last uint64) error {
	for {
		consumer, err := stream.PushConsumer(ctx, name)
		if err != nil {
			return err
		}
		info := consumer.CachedInfo()
		if info.AckFloor.Stream >= last || info.NumPending == 0 && info.NumAckPending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(takenPause):
		}
	}
}
