package mqttbridge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	// maxUpstreamWindow is how many retained messages are on their way at
	// once, unanswered.
	maxUpstreamWindow = 64
	// rowsATurn is how many readings go out between two looks at presence.
	rowsATurn = 256
	// tidyTime is how long after a connect the broker's retained messages
	// are looked through for what is not true any more.
	tidyTime = 20 * time.Second
	// ackTime is how long the broker may take to answer.
	ackTime = 20 * time.Second
)

var errNoAnswer = fmt.Errorf("the broker has not answered within %v", ackTime)

// upstreamSession is one connection.
type upstreamSession struct {
	*upstream
	client mqtt.Client
	lost   chan error
	told   map[string]string // availability by device, as the broker has it
	window []mqtt.Token
}

// session connects and publishes until ctx ends or the connection is lost.
func (u *upstream) session(ctx context.Context) error {
	network, cut := context.WithCancel(context.Background())
	defer cut()
	s := &upstreamSession{upstream: u, lost: make(chan error, 1), told: make(map[string]string)}
	options, err := u.dialer.options(network, u.clientID, func(_ mqtt.Client, m mqtt.Message) { s.tidy(m) })
	if err != nil {
		return err
	}
	options.SetCleanSession(true).SetWill(u.names.hub(), offline, 1, true)
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.lost <- err })
	s.client = mqtt.NewClient(options)
	stop := context.AfterFunc(ctx, cut) // while connecting
	token := s.client.Connect()
	<-token.Done()
	if err := token.Error(); err != nil {
		stop()
		return plainError(err)
	}
	defer s.client.Disconnect(uint(disconnectTime.Milliseconds()))
	if !stop() {
		return ctx.Err()
	}
	u.out.begin()
	defer u.out.end()
	u.log.Info("publishing to the MQTT broker", "prefix", u.names.prefix)
	err = s.serve(ctx)
	if ctx.Err() != nil {
		s.goodbye()
		return ctx.Err()
	}
	return plainError(err)
}

// goodbye marks the hub as away: the broker publishes the last will only of
// those who go without a word.
func (s *upstreamSession) goodbye() {
	s.client.Publish(s.names.hub(), 1, true, offline).WaitTimeout(disconnectTime)
}

// serve tells all that is so, then what changes.
func (s *upstreamSession) serve(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	tidied := time.NewTimer(tidyTime)
	defer tidied.Stop()
	for {
		rows := s.out.takeRows(rowsATurn)
		if err := s.readings(rows); err != nil {
			return err
		}
		if err := s.standing(ctx); err != nil {
			return err
		}
		if len(rows) == rowsATurn {
			select {
			case err := <-s.lost:
				return err
			case <-ctx.Done():
				return ctx.Err()
			default:
				continue
			}
		}
		select {
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-s.out.wake:
		case <-tidied.C:
			s.client.Unsubscribe(s.tidied()...)
		}
	}
}

// tidied are the filters of what this hub may have retained at the broker.
func (s *upstreamSession) tidied() []string {
	filters := []string{s.names.prefix + "/+/+"}
	if s.names.discovery != "" {
		for _, component := range []string{sensor, binarySensor} {
			filters = append(filters, s.names.discovery+"/"+component+"/+/+/config")
		}
	}
	return filters
}

// begin listens to what the broker has retained, and notes all devices.
func (s *upstreamSession) begin(ctx context.Context) error {
	if err := s.retained(ctx, s.names.hub(), []byte(online)); err != nil {
		return err
	}
	wanted := make(map[string]byte)
	for _, filter := range s.tidied() {
		wanted[filter] = 1
	}
	// Where the broker does not allow it, nothing is tidied.
	s.client.SubscribeMultiple(wanted, nil)
	for d := range s.registry.All(s.selector, "") {
		if publishedUpstream(d, s.selector) {
			s.out.deviceChanged(d.ID, nil)
		}
	}
	return nil
}

// tidy is told of messages on own topics: retained ones that are of no device
// any more are cleared. It must not wait.
func (s *upstreamSession) tidy(m mqtt.Message) {
	m.Ack()
	if !m.Retained() || len(m.Payload()) == 0 {
		return
	}
	topic := m.Topic()
	id, last, ours := s.names.told(topic)
	payload := string(m.Payload())
	switch {
	case ours && last == availability:
		ours = payload == online || payload == offline
	case ours:
		d, ok := s.registry.Get(id)
		kept := s.retain && ok && publishedUpstream(d, s.selector)
		ours = !kept && strings.HasPrefix(payload, payloadHead)
	default:
		id, ours = s.names.discovered(topic)
		ours = ours && strings.Contains(payload, `"`+s.names.prefix+"/"+id+`/`)
	}
	if _, wanted := s.wanted(id)[topic]; ours && !wanted {
		s.out.forsaken(topic)
	}
}

// standing tells of the devices that have changed, and clears what is stale.
func (s *upstreamSession) standing(ctx context.Context) error {
	change, stale := s.out.takeStanding()
	if len(change)+len(stale) == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(change)) {
		if err := s.device(ctx, id, change[id]); err != nil {
			return err
		}
	}
	for topic := range stale {
		if err := s.retained(ctx, topic, nil); err != nil {
			return err
		}
	}
	return s.answered(ctx, 0)
}

// device tells what is so of one device: discovery first, so that those who
// listen know what the rest is about.
func (s *upstreamSession) device(ctx context.Context, id string, c *changed) error {
	wanted := s.wanted(id)
	state := string(wanted[s.names.availability(id)])
	news := len(c.before) > 0 || s.told[id] == ""
	for topic := range c.before {
		if _, ok := wanted[topic]; !ok && !s.keepsReadings(topic, wanted) {
			if err := s.retained(ctx, topic, nil); err != nil {
				return err
			}
		}
	}
	if state == "" {
		delete(s.told, id)
		return nil
	}
	if news {
		for _, topic := range slices.Sorted(maps.Keys(wanted)) {
			if topic != s.names.availability(id) {
				if err := s.retained(ctx, topic, wanted[topic]); err != nil {
					return err
				}
			}
		}
	}
	if s.told[id] == state && !news {
		return nil
	}
	s.told[id] = state
	return s.retained(ctx, s.names.availability(id), []byte(state))
}

// keepsReadings reports whether a topic is that of readings of a device that
// is still told of.
func (s *upstreamSession) keepsReadings(topic string, wanted map[string][]byte) bool {
	_, last, ours := s.names.told(topic)
	return ours && last != availability && len(wanted) > 0
}

// retained publishes a retained message; an empty one clears the topic.
func (s *upstreamSession) retained(ctx context.Context, topic string, payload []byte) error {
	s.window = append(s.window, s.client.Publish(topic, 1, true, payload))
	s.published.Add(1)
	return s.answered(ctx, maxUpstreamWindow-1)
}

// answered waits until at most left messages are unanswered.
func (s *upstreamSession) answered(ctx context.Context, left int) error {
	for len(s.window) > left {
		select {
		case <-s.window[0].Done():
			if err := s.window[0].Error(); err != nil {
				return err
			}
			s.window = s.window[1:]
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(ackTime):
			return errNoAnswer
		}
	}
	return nil
}

// readings publishes rows. A broker that does not take them in ends the
// connection.
func (s *upstreamSession) readings(rows []reading) error {
	for i := range rows {
		token := s.client.Publish(rows[i].topic, 0, s.retain, rows[i].payload)
		select {
		case <-token.Done():
		case <-time.After(ackTime):
			return errNoAnswer
		}
		if err := token.Error(); err != nil {
			s.out.miss(uint64(len(rows) - i))
			return err
		}
		s.published.Add(1)
	}
	return nil
}
