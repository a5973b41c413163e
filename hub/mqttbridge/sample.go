package mqttbridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
)

// sampleTick is how often a sample tells what it has found so far.
const sampleTick = time.Second

// Sampler listens to brokers with connections of its own: nothing is stored,
// and the sessions of a bridge are not disturbed. Its methods may run at once.
type Sampler struct {
	brokers  []BrokerConfig
	embedded *Embedded
	// device finds a device of the hub; nil where there are none.
	device func(id string) (*registry.Device, bool)
	// gear is the id of the device that gear is; "": it is none.
	gear  func(registry.Gear) string
	own   []naming // what the hub itself publishes
	slots chan struct{}
}

// NewSampler makes a Sampler of the brokers of a config and, where embedded
// is not nil, of the hub's own. device tells which ids are taken; nil: none.
func NewSampler(cfg Config, embedded *Embedded, device func(id string) (*registry.Device, bool)) *Sampler {
	if device == nil {
		device = func(string) (*registry.Device, bool) { return nil, false }
	}
	return &Sampler{
		brokers: cfg.Brokers, embedded: embedded, device: device, gear: func(registry.Gear) string { return "" },
		own: ownTopics(&cfg), slots: make(chan struct{}, MaxSamples),
	}
}

// SampleOnly stands for the bridge of a hub that has none: it samples.
type SampleOnly struct{ *Sampler }

// Brokers are none.
func (SampleOnly) Brokers() []BrokerStatus { return nil }

// Gear is none.
func (SampleOnly) Gear(string) []SeenGear { return nil }

// Allow returns ErrNoBridge.
func (SampleOnly) Allow(context.Context, registry.Gear, string, map[string]string, string) (*registry.Device, error) {
	return nil, ErrNoBridge
}

// Sample listens to a broker, tells about once a second what it has found so
// far, and at the end all of it with a config. It returns when the time is
// over, ctx ends or tell fails. Errors wrap ErrBadSample, ErrNoBridge,
// ErrUnknownGear, ErrUnreachable or ErrTooManySamples, or are those of ctx
// and tell.
func (s *Sampler) Sample(ctx context.Context, r SampleRequest, tell func(SampleProgress) error) error {
	broker, err := s.broker(&r)
	if err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return ErrTooManySamples
	}
	rec := newRecording(r.Filters, s.own)
	l, err := s.listen(ctx, broker.dial, &r, rec)
	if err != nil {
		return err
	}
	defer l.hangUp()
	study := newStudy(broker.known, s.device)
	study.gear, study.filters, study.births = s.gear, r.Filters, newBirths(&r, l.publish)
	return study.report(ctx, &r, rec, l.lost, tell)
}

// Sample listens to a broker of the config, the hub's own or one that a URL
// names, as Sampler.Sample does.
func (b *Bridge) Sample(ctx context.Context, r SampleRequest, tell func(SampleProgress) error) error {
	return b.sampler.Sample(ctx, r, tell)
}

// report tells until the time is over.
func (s *study) report(ctx context.Context, r *SampleRequest, rec *recording, lost <-chan error, tell func(SampleProgress) error) error {
	over := time.NewTimer(r.Duration)
	defer over.Stop()
	tick := time.NewTicker(sampleTick)
	defer tick.Stop()
	var found SampleProgress
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return fmt.Errorf("%w: connection lost: %w", ErrUnreachable, plainError(err))
		case <-over.C:
			seen := rec.take()
			found = s.progress(seen)
			found.Done, found.Unrecognised = true, s.unrecognised(seen)
			found.Config, found.Asked = s.config(r, seen), s.births.nodes()
			return tell(found)
		case <-tick.C:
			seen := rec.take()
			s.births.ask(seen.kept)
			// Looking at everything anew is quick, but for a sample of very
			// many topics: that is looked at in the end.
			if began := time.Now(); !s.tooLong {
				found = s.progress(seen)
				s.tooLong = time.Since(began) > sampleTick/4
			}
			found.Messages, found.Asked = seen.messages, s.births.nodes()
			if err := tell(found); err != nil {
				return err
			}
		}
	}
}

func (r *SampleRequest) check() error {
	if r.Duration < MinSample || r.Duration > MaxSample {
		return fmt.Errorf("%w: %v is not within %v to %v", ErrBadSample, r.Duration, MinSample, MaxSample)
	}
	if len(r.Filters) > MaxSampleFilters {
		return fmt.Errorf("%w: %d filters; at most %d", ErrBadSample, len(r.Filters), MaxSampleFilters)
	}
	for _, filter := range r.Filters {
		if !validFilter(filter) {
			return fmt.Errorf("%w: %.80q is no topic filter: '+' stands for one level, '#' at the end for the rest", ErrBadSample, filter)
		}
	}
	return nil
}

// validFilter holds by MQTT 3.1.1, section 4.7.
func validFilter(filter string) bool {
	if filter == "" || len(filter) > 1024 || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0) {
		return false
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 || level == "#" && i < len(levels)-1 {
			return false
		}
	}
	return true
}

// listener is a connection that samples.
type listener struct {
	client mqtt.Client
	cut    context.CancelFunc
	lost   chan error // told when the broker has gone
}

func (l *listener) hangUp() {
	l.client.Disconnect(uint(disconnectTime.Milliseconds()))
	l.cut()
}

// publish a message at QoS 0, not retained.
func (l *listener) publish(p profile.Publish) error {
	token := l.client.Publish(p.Topic, 0, false, p.Payload)
	if !token.WaitTimeout(writeTimeout) {
		return fmt.Errorf("the broker takes nothing for %v", writeTimeout)
	}
	return token.Error()
}

// listen connects and subscribes. What comes goes to rec until hangUp.
func (s *Sampler) listen(ctx context.Context, b *BrokerConfig, r *SampleRequest, rec *recording) (*listener, error) {
	d, err := newDialer(b, s.embedded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if r.Password != "" {
		d.password = func() (string, error) { return r.Password, nil }
	}
	network, cut := context.WithCancel(ctx)
	l := &listener{cut: cut, lost: make(chan error, 1)}
	options, err := d.options(network, "tetherline-sample-"+rand.Text()[:12], func(_ mqtt.Client, m mqtt.Message) { rec.put(m) })
	if err != nil {
		cut()
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	options.SetCleanSession(true).SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.lost <- err })
	l.client = mqtt.NewClient(options)
	token := l.client.Connect()
	<-token.Done()
	if err = token.Error(); err == nil {
		err = sampleFilters(ctx, l.client, r.Filters)
	}
	if err != nil {
		l.hangUp()
		return nil, errors.Join(ctx.Err(), fmt.Errorf("%w: %w", ErrUnreachable, plainError(err)))
	}
	return l, nil
}

// sampleFilters subscribes, QoS 0, to filters that cover those asked for and
// do not overlap.
func sampleFilters(ctx context.Context, client mqtt.Client, filters []string) error {
	wanted := make(map[string]byte)
	for _, f := range cover(filters) {
		wanted[f] = 0
	}
	token := client.SubscribeMultiple(wanted, nil)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(connectTimeout):
		return fmt.Errorf("the broker does not answer the subscription within %v", connectTimeout)
	}
	if err := token.Error(); err != nil {
		return err
	}
	for filter, qos := range token.(*mqtt.SubscribeToken).Result() {
		if qos > 2 {
			return fmt.Errorf("the broker does not allow %q to be listened to: name topics that it allows with --filter", filter)
		}
	}
	return nil
}
