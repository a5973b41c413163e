package mqttbridge

import (
	"errors"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Bounds of sampling.
const (
	MinSample     = time.Second
	MaxSample     = 10 * time.Minute
	DefaultSample = 30 * time.Second
	// MaxSamples is how many run at once on one hub.
	MaxSamples = 4
	// MaxSampleFilters is how many topic filters one sample may name.
	MaxSampleFilters = 32
)

// Errors of sampling.
var (
	// ErrBadSample wraps what is wrong with a SampleRequest.
	ErrBadSample = errors.New("bad sample")
	// ErrUnreachable wraps why a broker cannot be listened to.
	ErrUnreachable = errors.New("the broker cannot be listened to")
	// ErrTooManySamples says that MaxSamples are under way.
	ErrTooManySamples = errors.New("too many samples are under way; try again when one has ended")
	// ErrNoBridge says that this hub has no MQTT bridge.
	ErrNoBridge = errors.New("this hub has no MQTT bridge: start it with --mqtt-bridge FILE; " +
		"'hubctl bridge sample tcp://HOST:1883' prints such a file")
)

// SampleRequest says what to listen to.
type SampleRequest struct {
	// Broker is a name of the config, whose address and credentials are used,
	// "embedded", or a URL: tcp://host:1883, ssl://host:8883.
	Broker string
	// Duration is MinSample to MaxSample; 0: DefaultSample.
	Duration time.Duration
	// Filters are topic filters; none: "#".
	Filters []string
	// User and Password are for a URL.
	User, Password string
	// NoRebirth: nothing is published. Else each Sparkplug node that is heard
	// without its birth is asked for it, once.
	NoRebirth bool
}

// SampleProgress is what a sample has found so far.
type SampleProgress struct {
	Messages uint64
	Gear     []SampledGear // by profile and name; complete when Done
	Done     bool          // it is over: this is all
	// Asked are the Sparkplug nodes, as group/node, that were asked for their
	// births.
	Asked []string

	Config       string         // YAML to paste; only when Done
	Unrecognised []SampledTopic // most messages first; only when Done
}

// SampledGear is a device that would appear.
type SampledGear struct {
	Kind     string // of the profile
	Profile  string // its name in the config
	Name     string
	DeviceID string // that it would get
	Fields   []*devicev1.FieldDescription
	Commands []string
	Status   string // "online", "offline", or "": it has not told
	Problem  string // why it would not appear, or what is wrong with its messages
}

// SampledTopic is a topic that no profile takes.
type SampledTopic struct {
	Topic    string
	Messages uint64
	Payload  string // the beginning of the last one, printable
	Reason   string
}
