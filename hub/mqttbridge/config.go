package mqttbridge

import (
	"cmp"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Defaults and limits of a Config.
const (
	DefaultPendingBytes = 8 << 20
	MinPendingBytes     = 512 << 10
	MaxPendingBytes     = 1 << 30
	MaxBrokers          = 64
	DefaultKeepAlive    = 15 * time.Second
	MaxProfiles         = 32 // of one broker
	// DefaultMaxDevices of a profile, where auto-allow stops.
	DefaultMaxDevices = 1000

	// DefaultPrefix of the topics of PublishConfig.
	DefaultPrefix = "tetherline"

	// EmbeddedURL stands for the hub's own broker (--mqtt-listen).
	EmbeddedURL = "embedded"
)

// Config is the file that the hub's key mqtt-bridge names.
type Config struct {
	Brokers []BrokerConfig `yaml:"brokers"`
}

// BrokerConfig is one MQTT broker.
type BrokerConfig struct {
	Name string `yaml:"name"` // [A-Za-z0-9_-]{1,32}, unique
	// URL is tcp://host:port, ssl://host:port or "embedded".
	URL string `yaml:"url"`
	// ClientID names the persistent session; "": tetherline-<node>-<name>.
	ClientID string `yaml:"client-id"`
	User     string `yaml:"user"`
	// Files are relative to the config file. The password file is read anew
	// at each connect; a line break at its end does not count.
	PasswordFile string `yaml:"password-file"`
	CA           string `yaml:"ca"`
	Cert         string `yaml:"cert"`
	Key          string `yaml:"key"`
	// KeepAlive is how long the line may be silent before the hub asks whether
	// the broker is still there; 0: DefaultKeepAlive; 2 s to 10 min. A broker
	// that does not answer within it, or within 10 s, is lost.
	KeepAlive time.Duration `yaml:"keep-alive"`
	// MaxPendingBytes bounds messages that are received and not durable;
	// 0: DefaultPendingBytes; MinPendingBytes to MaxPendingBytes.
	MaxPendingBytes int             `yaml:"max-pending-bytes"`
	Profiles        []ProfileConfig `yaml:"profiles"`
	Publish         *PublishConfig  `yaml:"publish"` // nil: nothing is published of wss devices
}

// ProfileConfig is one kind of gear on a broker.
type ProfileConfig struct {
	Kind string `yaml:"kind"` // of profile.Kinds
	Name string `yaml:"name"` // "": as Kind; [A-Za-z0-9_-]{1,32}, unique within the broker
	// Settings are those of the kind; nil: its defaults.
	Settings ast.Node `yaml:"settings"`
	// Silence is after how long without a sign of life gear is offline; nil:
	// as the kind has it; 0: never by silence; else from 1 s.
	Silence *time.Duration `yaml:"silence"`
	// IDPrefix is put before the device ids that are made from gear names.
	IDPrefix string `yaml:"id-prefix"`
	// AutoAllow are globs ('*' any characters, '?' one) over gear names:
	// gear that matches is allowed when it is first heard, with Labels.
	AutoAllow []string `yaml:"auto-allow"`
	// MaxDevices is how many devices the profile may have, those that were
	// allowed otherwise among them, before AutoAllow stops; 0:
	// DefaultMaxDevices; to profile.MaxGear. What is allowed by hand or is
	// among Devices is not bounded by it.
	MaxDevices int               `yaml:"max-devices"`
	Labels     map[string]string `yaml:"labels"`
	// Devices are allowed from the start, with Labels and their own.
	Devices []DeviceConfig `yaml:"devices"`
}

func (p *ProfileConfig) maxDevices() int { return cmp.Or(p.MaxDevices, DefaultMaxDevices) }

// DeviceConfig is a piece of gear with the device id that it gets.
type DeviceConfig struct {
	Gear   string            `yaml:"gear"`
	ID     string            `yaml:"id"` // "": made from Gear
	Labels map[string]string `yaml:"labels"`
}

// PublishConfig is what the hub tells others on the broker.
type PublishConfig struct {
	Prefix    string `yaml:"prefix"`    // of the topics; "": "tetherline"
	Discovery string `yaml:"discovery"` // Home Assistant's discovery prefix; "": none
	Selector  string `yaml:"selector"`  // of wss devices; "": all
	Retain    bool   `yaml:"retain"`    // the last reading of each topic
}
