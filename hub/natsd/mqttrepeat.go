package natsd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Streams of the server: of what it knows of sessions, of the messages that
// wait for them, and of the releases of messages of QoS 2. The latter two have
// a consumer for each subscription of a session, and one for each session.
const (
	mqttSessions = "$MQTT_sess"
	mqttMessages = "$MQTT_msgs"
	mqttReleases = "$MQTT_out"
)

const (
	// repeatTimeout bounds how long a client waits for what precedes its
	// CONNECT. Where that takes longer, what it has not acknowledged comes
	// 30 s after it was sent.
	repeatTimeout = 3 * time.Second
	// settleTimeout bounds how long a stop waits for what clients have
	// acknowledged; on a machine with one busy core 3 s were too short. The hub
	// stops within 9 s, whatever is done by then.
	settleTimeout = 6 * time.Second
	// letGoPause is between two looks whether the server has let go of the
	// connection before.
	letGoPause = 2 * time.Millisecond
	// repeatRange bounds how many messages of the stream are looked at for one
	// subscription, from the first on that is not acknowledged.
	repeatRange = 1 << 16
)

// negative is the acknowledgement that has JetStream send a message again at
// once.
var negative = []byte("-NAK")

// inProgress is the acknowledgement that changes nothing.
var inProgress = []byte("+WPI")

// keptSession is what is read of the server's record of a session.
type keptSession struct {
	Name      string                  `json:"id"`
	Consumers map[string]keptConsumer `json:"cons"`
	Releases  keptConsumer            `json:"pubrel"`
}

type keptConsumer struct {
	Name string `json:"durable_name"`
}

// repeatMQTT has the server send again what the client of a session has not
// acknowledged, as soon as it is back and before anything new, as MQTT 3.1.1
// section 4.4 wants it. By itself the server would wait until 30 s after it
// sent it last, and send new messages first: it sends a whole window of
// messages, so that nothing at all might come in that time. It is for a client
// that is about to connect, and waits until the server has let go of the
// connection before.
func (e *embedded) repeatMQTT(ctx context.Context, session string) error {
	ctx, cancel := context.WithTimeout(ctx, repeatTimeout)
	defer cancel()
	return e.eachConsumer(ctx, session, repeatFor)
}

// settleMQTT waits until the server has taken in what the client of a session
// has acknowledged, as it has not when the connection ends: what it then
// forgets by its own end is sent again.
func (e *embedded) settleMQTT(ctx context.Context, session string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return e.eachConsumer(ctx, session, settleFor)
}

// eachConsumer calls f for each consumer of a session.
func (e *embedded) eachConsumer(ctx context.Context, session string, f func(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, stream, name string) error) error {
	return e.inMQTT(func(conn *nats.Conn, js jetstream.JetStream) error {
		kept, err := readSession(ctx, js, session)
		if err != nil {
			return fmt.Errorf("read the session: %w", err)
		}
		for _, c := range kept.Consumers {
			if err := f(ctx, conn, js, mqttMessages, c.Name); err != nil {
				return fmt.Errorf("consumer %s: %w", c.Name, err)
			}
		}
		if c := kept.Releases; c.Name != "" {
			if err := f(ctx, conn, js, mqttReleases, c.Name); err != nil {
				return fmt.Errorf("consumer %s: %w", c.Name, err)
			}
		}
		return nil
	})
}

// readSession is empty where the server has no such session.
func readSession(ctx context.Context, js jetstream.JetStream, session string) (kept keptSession, err error) {
	stream, err := js.Stream(ctx, mqttSessions)
	if err != nil {
		return kept, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, "$MQTT.sess."+sessionHash(session))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return kept, nil
	}
	if err != nil {
		return kept, err
	}
	if err := json.Unmarshal(msg.Data, &kept); err != nil || kept.Name != session {
		return keptSession{}, err
	}
	return kept, nil
}

// sessionHash is what the server files a session under.
func sessionHash(session string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(session))
	hash := sum[:8]
	for i, b := range hash {
		hash[i] = digits[int(b)%len(digits)]
	}
	return string(hash)
}

// repeatFor has a consumer send again what it has sent and is not
// acknowledged. It returns when the server has taken that in.
func repeatFor(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, stream, name string) error {
	info, err := unbound(ctx, js, stream, name)
	if info == nil || info.NumAckPending == 0 {
		return err
	}
	// Those between that are acknowledged, or another's, the server passes over.
	first, last := info.AckFloor.Stream+1, min(info.Delivered.Stream, info.AckFloor.Stream+repeatRange)
	subject := func(seq uint64) string { return ackSubject(stream, name, seq, info.Delivered.Consumer) }
	for seq := first; seq < last; seq++ {
		if err := conn.Publish(subject(seq), negative); err != nil {
			return err
		}
	}
	// It takes them in one by one, and answers the last.
	_, err = conn.RequestWithContext(ctx, subject(last), negative)
	return err
}

// ackSubject is where a consumer hears of the message seq.
func ackSubject(stream, name string, seq, delivered uint64) string {
	return fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.0.0", stream, name, seq, delivered)
}

// settleFor waits until a consumer has taken in all that it was told.
func settleFor(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, stream, name string) error {
	info, err := unbound(ctx, js, stream, name)
	if info == nil || info.NumAckPending == 0 {
		return err
	}
	_, err = conn.RequestWithContext(ctx, ackSubject(stream, name, info.AckFloor.Stream+1, info.Delivered.Consumer), inProgress)
	return err
}

// unbound waits until nobody is sent anything by a consumer, and says how it
// stands then; nil: it is gone.
func unbound(ctx context.Context, js jetstream.JetStream, stream, name string) (*jetstream.ConsumerInfo, error) {
	for {
		consumer, err := js.PushConsumer(ctx, stream, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if info := consumer.CachedInfo(); !info.PushBound {
			return info, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(letGoPause):
		}
	}
}
