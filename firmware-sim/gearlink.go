package firmwaresim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Times and bounds of a connection of simulated gear.
const (
	gearPatience    = 10 * time.Second // for the broker's answers
	gearFarewell    = 5 * time.Second  // for the last acknowledgements
	gearFirstRetry  = 200 * time.Millisecond
	gearLastRetry   = 5 * time.Second
	gearInbox       = 256    // commands that wait
	gearUnconfirmed = 10_000 // messages without acknowledgement; readings pause beyond
)

// gearLink is one connection after the other for one model.
type gearLink struct {
	config *GearConfig
	id     string
	model  gearModel

	sessions    uint64
	published   uint64
	acked       uint64
	readings    map[string]uint64
	commands    uint64
	refused     uint64
	unconfirmed []unconfirmed
}

// unconfirmed is a message that the broker has not acknowledged.
type unconfirmed struct {
	token   mqtt.Token
	reading string
}

// run until ctx ends, or the broker refuses the very first connection.
func (l *gearLink) run(ctx context.Context) error {
	pause := gearFirstRetry
	for {
		began := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if l.sessions == 0 && refusedByBroker(err) {
			return err
		}
		l.config.Logger.Warn("connection of simulated gear is over", "client", l.id, "error", err)
		if time.Since(began) > gearPatience {
			pause = gearFirstRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(pause) + pause/2):
		}
		pause = min(2*pause, gearLastRetry)
	}
}

func refusedByBroker(err error) bool {
	return errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) || errors.Is(err, packets.ErrorRefusedNotAuthorised) ||
		errors.Is(err, packets.ErrorRefusedIDRejected)
}

// session is one connection.
func (l *gearLink) session(ctx context.Context) error {
	lost := make(chan error, 1)
	inbox := make(chan gearMessage, gearInbox)
	client := mqtt.NewClient(l.options(lost))
	if err := wait(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect to %s: %w", l.config.Broker, err)
	}
	defer client.Disconnect(100)
	for _, filter := range l.model.listens() {
		token := client.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) {
			select {
			case inbox <- gearMessage{topic: m.Topic(), payload: m.Payload()}:
			default: // gear that cannot keep up loses commands
			}
		})
		if err := wait(ctx, token); err != nil {
			return fmt.Errorf("subscribe to %s: %w", filter, err)
		}
	}
	n := l.sessions
	l.sessions++
	l.say(client, l.model.born(n))
	ticker := time.NewTicker(l.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case err := <-lost:
			l.unconfirmed = nil
			return err
		case <-ctx.Done():
			l.say(client, l.model.goodbye())
			l.settle()
			return nil
		case m := <-inbox:
			answers, outcome := l.model.obey(m.topic, m.payload)
			switch outcome {
			case obeyed:
				l.commands++
			case notUnderstood:
				l.refused++
			}
			l.say(client, answers)
		case now := <-ticker.C:
			if l.confirm(); len(l.unconfirmed) < gearUnconfirmed {
				l.say(client, l.model.read(now))
			}
		}
	}
}

func (l *gearLink) options(lost chan<- error) *mqtt.ClientOptions {
	c := l.config
	o := mqtt.NewClientOptions().AddBroker(c.Broker).SetClientID(l.id).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectTimeout(gearPatience).SetWriteTimeout(gearPatience).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			select {
			case lost <- err:
			default:
			}
		})
	if c.User != "" {
		o.SetUsername(c.User).SetPassword(c.Password)
	}
	if strings.HasPrefix(c.Broker, "ssl://") {
		o.SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs})
	}
	if will := l.model.will(l.sessions); will.topic != "" {
		o.SetBinaryWill(will.topic, will.payload, 1, will.retained)
	}
	return o
}

func wait(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(gearPatience):
		return errors.New("the broker does not answer")
	}
}

func (l *gearLink) say(client mqtt.Client, messages []gearMessage) {
	for _, m := range messages {
		token := client.Publish(m.topic, l.config.QoS, m.retained, m.payload)
		l.published++
		l.unconfirmed = append(l.unconfirmed, unconfirmed{token, m.reading})
	}
}

// confirm counts what the broker has acknowledged.
func (l *gearLink) confirm() {
	left := l.unconfirmed[:0]
	for _, u := range l.unconfirmed {
		select {
		case <-u.token.Done():
			if u.token.Error() != nil {
				continue
			}
			l.acked++
			if u.reading != "" {
				l.readings[u.reading]++
			}
		default:
			left = append(left, u)
		}
	}
	clear(l.unconfirmed[len(left):])
	l.unconfirmed = left
}

// settle waits for the last acknowledgements.
func (l *gearLink) settle() {
	deadline := time.Now().Add(gearFarewell)
	for _, u := range l.unconfirmed {
		u.token.WaitTimeout(time.Until(deadline))
	}
	l.confirm()
}

func (l *gearLink) addTo(s *GearSummary) {
	s.Published += l.published
	s.Acknowledged += l.acked
	s.Commands += l.commands
	s.Refused += l.refused
	if l.sessions > 1 {
		s.Reconnects += l.sessions - 1
	}
	for gear, n := range l.readings {
		s.Readings[gear] += n
	}
}
