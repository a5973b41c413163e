package hub

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd"
)

// Config is everything that can be set of a hub. The flags of `hubd serve`,
// the keys of the config file and the TETHERLINE_* variables are the same
// set: the flag --influx-url is the key influx-url and the variable
// TETHERLINE_INFLUX_URL. A flag wins over a variable, a variable over the
// file, the file over the default.
type Config struct {
	Data           string   // folder of all state; made when missing
	Listen         string   // address of devices, and of operators unless OperatorListen is set
	OperatorListen string   // "": operators share Listen
	PublicURL      string   // what devices dial, wss://host[:port]; "": made from Listen
	TLSCert        string   // PEM files of an own certificate; "": self-made from the hub's own CA
	TLSKey         string   //
	TLSCA          string   // PEM of the CA that devices must trust when TLSCert is set; "": the certificate's chain
	TLSNames       []string // further names and addresses for the self-made certificate
	ProxyListen    string   // plaintext, loopback only, for a TLS-terminating proxy; "": none
	TrustedProxies []string // CIDRs whose X-Forwarded-For counts on ProxyListen
	AllowedOrigins []string // exact origins of browsers, besides the hub's own

	InfluxURL       string // "": the embedded store
	InfluxToken     string //
	InfluxTokenFile string // file that holds the token; wins over InfluxToken
	InfluxOrg       string //
	InfluxBucket    string //
	InfluxDatabase  string // that InfluxQL knows the bucket by; "": as the bucket is named
	InfluxRetention string // retention policy of InfluxDatabase; "": as the bucket is named
	InfluxTimeout   time.Duration
	LabelTags       []string      // device labels that become tags in InfluxDB
	RetentionAge    time.Duration // of the embedded store; 0: keep for ever
	RetentionBytes  int64         // of the embedded store; 0: no bound

	NATSURL         string // external cluster; "": the embedded server
	NATSCreds       string // credentials file for NATSURL
	NATSUser        string // user for NATSURL, with NATSPassword, where there are no NATSCreds
	NATSPassword    string //
	NATSCA          string // PEM of the CA of NATSURL; "": the system's roots
	NodeName        string // "": the host's name
	Replicas        int    // of every stream: 1, 3 or 5; 0: 3 in a cluster of at least three, else 1
	BufferBytes     int64  // bound of the telemetry buffer
	QuarantineBytes int64  // bound of the quarantine

	MQTTBridge   string // config file of the bridge to legacy gear; "": none
	MQTTListen   string // address of the embedded MQTT broker (TLS); "": none
	MQTTUsers    string // YAML file of its users; "": everybody, on loopback only
	MQTTMaxBytes int64  // bound of what it keeps on disk

	Heartbeat     time.Duration // default interval, 5 s to 30 min
	WindowFrames  int           // unacknowledged frames in flight of one device
	WindowBytes   int           // and their bytes
	DeviceFrames  float64       // frames a second of one device, sustained
	DeviceBytes   float64       // bytes a second of one device, sustained
	MaxDevices    int           // live connections of this node
	MaxHandshakes int           // connections that have not proved themselves, at once
	AddressRate   float64       // connection attempts a second of one address, sustained
	RotationGrace time.Duration // how long a superseded credential works

	CommandHistory time.Duration // how long commands and their stories are kept after their end, from 1 h
	CommandBytes   int64         // bound of the commands on disk, from 16 MiB

	LogLevel  string // debug, info, warn, error
	LogFormat string // text or json
}

// DefaultConfig is the config of a hub that is told nothing but its folder.
func DefaultConfig() Config {
	return Config{
		Listen:          "127.0.0.1:8443",
		InfluxTimeout:   10 * time.Second,
		RetentionAge:    90 * 24 * time.Hour,
		RetentionBytes:  10 << 30,
		BufferBytes:     2 << 30,
		QuarantineBytes: 256 << 20,
		MQTTMaxBytes:    natsd.DefaultMQTTStore,
		Heartbeat:       25 * time.Second,
		WindowFrames:    64,
		WindowBytes:     512 << 10,
		DeviceFrames:    200,
		DeviceBytes:     2 << 20,
		MaxDevices:      100_000,
		MaxHandshakes:   2000,
		AddressRate:     50,
		RotationGrace:   24 * time.Hour,
		CommandHistory:  30 * 24 * time.Hour,
		CommandBytes:    jsstore.DefaultMaxBytes,
		LogLevel:        "info",
		LogFormat:       "text",
	}
}

// Flags adds one flag for every key to fs, with c's present values as
// defaults.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Data, "data", c.Data, "folder of all state; made when missing")
	fs.StringVar(&c.Listen, "listen", c.Listen, "address for devices and operators (TLS)")
	fs.StringVar(&c.OperatorListen, "operator-listen", c.OperatorListen, "address for operators alone (TLS); empty: they share --listen")
	fs.StringVar(&c.PublicURL, "public-url", c.PublicURL, "what devices dial, as wss://host:port; empty: made from --listen")
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "own certificate chain, PEM, reloaded when it changes; empty: self-made")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "key of --tls-cert, PEM")
	fs.StringVar(&c.TLSCA, "tls-ca", c.TLSCA, "CA that devices shall trust with --tls-cert, PEM; empty: the system's roots")
	fs.StringSliceVar(&c.TLSNames, "tls-names", c.TLSNames, "further host names and addresses for the self-made certificate")
	fs.StringVar(&c.ProxyListen, "proxy-listen", c.ProxyListen, "plaintext loopback address for a TLS-terminating proxy; devices there prove themselves without channel binding")
	fs.StringSliceVar(&c.TrustedProxies, "trusted-proxies", c.TrustedProxies, "CIDRs whose X-Forwarded-For is believed on --proxy-listen")
	fs.StringSliceVar(&c.AllowedOrigins, "allowed-origins", c.AllowedOrigins, "exact browser origins that may call the API, as https://host")

	fs.StringVar(&c.InfluxURL, "influx-url", c.InfluxURL, "InfluxDB to store readings in; empty: the embedded store")
	fs.StringVar(&c.InfluxToken, "influx-token", c.InfluxToken, "token of InfluxDB; user:password for 1.8 (better in a file or the environment)")
	fs.StringVar(&c.InfluxTokenFile, "influx-token-file", c.InfluxTokenFile, "file that holds the token of InfluxDB")
	fs.StringVar(&c.InfluxOrg, "influx-org", c.InfluxOrg, "organisation in InfluxDB")
	fs.StringVar(&c.InfluxBucket, "influx-bucket", c.InfluxBucket, "bucket in InfluxDB; database/retention-policy for 1.8")
	fs.StringVar(&c.InfluxDatabase, "influx-database", c.InfluxDatabase, "database that the bucket is mapped to for reading (2.x); empty: as the bucket is named")
	fs.StringVar(&c.InfluxRetention, "influx-retention-policy", c.InfluxRetention, "retention policy that the bucket is mapped to for reading (2.x); empty: as the bucket is named")
	fs.DurationVar(&c.InfluxTimeout, "influx-timeout", c.InfluxTimeout, "longest wait for one answer of InfluxDB")
	fs.StringSliceVar(&c.LabelTags, "label-tags", c.LabelTags, "device labels that become tags in InfluxDB")
	fs.DurationVar(&c.RetentionAge, "retention-age", c.RetentionAge, "age at which the embedded store drops rows; 0: never")
	fs.Int64Var(&c.RetentionBytes, "retention-bytes", c.RetentionBytes, "size at which the embedded store drops its oldest rows; 0: never")

	fs.StringVar(&c.NATSURL, "nats-url", c.NATSURL, "external NATS cluster with JetStream; empty: the embedded server")
	fs.StringVar(&c.NATSCreds, "nats-creds", c.NATSCreds, "credentials file for --nats-url")
	fs.StringVar(&c.NATSUser, "nats-user", c.NATSUser, "user for --nats-url, where there is no credentials file")
	fs.StringVar(&c.NATSPassword, "nats-password", c.NATSPassword, "password of --nats-user (better in the environment)")
	fs.StringVar(&c.NATSCA, "nats-ca", c.NATSCA, "CA of --nats-url, PEM; empty: the system's roots")
	fs.StringVar(&c.NodeName, "node-name", c.NodeName, "name of this node; empty: the host's name")
	fs.IntVar(&c.Replicas, "replicas", c.Replicas, "copies of every stream: 1, 3 or 5; 0: 3 in a cluster of at least three servers, else 1")
	fs.Int64Var(&c.BufferBytes, "buffer-bytes", c.BufferBytes, "bound of the telemetry buffer on disk")
	fs.Int64Var(&c.QuarantineBytes, "quarantine-bytes", c.QuarantineBytes, "bound of the quarantine on disk")

	fs.StringVar(&c.MQTTBridge, "mqtt-bridge", c.MQTTBridge, "YAML file of the MQTT brokers whose gear shall appear as devices; empty: none")
	fs.StringVar(&c.MQTTListen, "mqtt-listen", c.MQTTListen, "address of the embedded MQTT broker (TLS), as 0.0.0.0:8883; empty: none")
	fs.StringVar(&c.MQTTUsers, "mqtt-users", c.MQTTUsers, "YAML file of the users of --mqtt-listen, reloaded when it changes; empty: everybody, on loopback only")
	fs.Int64Var(&c.MQTTMaxBytes, "mqtt-max-bytes", c.MQTTMaxBytes, "bound of what the embedded MQTT broker keeps on disk")

	fs.DurationVar(&c.Heartbeat, "heartbeat", c.Heartbeat, "default heartbeat interval, 5s to 30m")
	fs.IntVar(&c.WindowFrames, "window-frames", c.WindowFrames, "unacknowledged frames in flight of one device")
	fs.IntVar(&c.WindowBytes, "window-bytes", c.WindowBytes, "bytes of unacknowledged frames in flight of one device")
	fs.Float64Var(&c.DeviceFrames, "device-frames", c.DeviceFrames, "frames a second that one device may send, sustained")
	fs.Float64Var(&c.DeviceBytes, "device-bytes", c.DeviceBytes, "bytes a second that one device may send, sustained")
	fs.IntVar(&c.MaxDevices, "max-devices", c.MaxDevices, "live connections of this node")
	fs.IntVar(&c.MaxHandshakes, "max-handshakes", c.MaxHandshakes, "connections that have not proved themselves, at once")
	fs.Float64Var(&c.AddressRate, "address-rate", c.AddressRate, "connection attempts a second of one address, sustained")
	fs.DurationVar(&c.RotationGrace, "rotation-grace", c.RotationGrace, "how long a superseded credential works when the new one is not proved")

	fs.DurationVar(&c.CommandHistory, "command-history", c.CommandHistory, "how long commands and their stories are kept after their end, from 1h; idempotency keys are honoured as long, unless command-bytes needs their room before")
	fs.Int64Var(&c.CommandBytes, "command-bytes", c.CommandBytes, "bound of the commands on disk, from 16777216: near it the oldest ended ones make room before their time, and their idempotency keys are forgotten; where commands that have not ended fill it, new ones are refused")

	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
}
