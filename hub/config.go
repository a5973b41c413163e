package hub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
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

	fs.DurationVar(&c.Heartbeat, "heartbeat", c.Heartbeat, "default heartbeat interval, 5s to 30m")
	fs.IntVar(&c.WindowFrames, "window-frames", c.WindowFrames, "unacknowledged frames in flight of one device")
	fs.IntVar(&c.WindowBytes, "window-bytes", c.WindowBytes, "bytes of unacknowledged frames in flight of one device")
	fs.Float64Var(&c.DeviceFrames, "device-frames", c.DeviceFrames, "frames a second that one device may send, sustained")
	fs.Float64Var(&c.DeviceBytes, "device-bytes", c.DeviceBytes, "bytes a second that one device may send, sustained")
	fs.IntVar(&c.MaxDevices, "max-devices", c.MaxDevices, "live connections of this node")
	fs.IntVar(&c.MaxHandshakes, "max-handshakes", c.MaxHandshakes, "connections that have not proved themselves, at once")
	fs.Float64Var(&c.AddressRate, "address-rate", c.AddressRate, "connection attempts a second of one address, sustained")
	fs.DurationVar(&c.RotationGrace, "rotation-grace", c.RotationGrace, "how long a superseded credential works when the new one is not proved")

	fs.DurationVar(&c.CommandHistory, "command-history", c.CommandHistory, "how long commands and their stories are kept after their end, from 1h; idempotency keys are honoured as long")

	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
}

// Prefix of the environment variables that set keys.
const envPrefix = "TETHERLINE_"

// foreignEnv are variables with the prefix that belong to other programs of
// the project.
var foreignEnv = map[string]bool{
	"TETHERLINE_HUB": true, "TETHERLINE_TOKEN": true, "TETHERLINE_CA": true, "TETHERLINE_CONTEXT": true,
	"TETHERLINE_CACHE": true, "TETHERLINE_INFLUXD": true, "TETHERLINE_CONFIG": true,
}

// ApplyEnv sets every flag of fs that was not given from environ ("K=V"). A
// variable with the prefix that names no key is an error, so that a slip of
// the pen never goes unseen.
func ApplyEnv(fs *pflag.FlagSet, environ []string) error {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || foreignEnv[name] || strings.HasPrefix(name, "TETHERLINE_TEST_") {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		if err := setKey(fs, key, []string{value}, "environment variable "+name); err != nil {
			return err
		}
	}
	return nil
}

// ApplyFile sets every flag of fs that was not given, neither on the command
// line nor in the environment, from a YAML file: a flat map of keys.
func ApplyFile(fs *pflag.FlagSet, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read config file: %w", err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(text, &keys); err != nil {
		return fmt.Errorf("config file %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		values, err := yamlValues(keys[name])
		if err != nil {
			return fmt.Errorf("config file %s: key %s: %w", path, name, err)
		}
		if err := setKey(fs, name, values, "config file "+path+": key "+name); err != nil {
			return err
		}
	}
	return nil
}

func yamlValues(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return []string{""}, nil
	case []any:
		values := make([]string, 0, len(v))
		for _, item := range v {
			if strings.Contains(fmt.Sprint(item), ",") {
				return nil, fmt.Errorf("list item %q holds a comma", item)
			}
			values = append(values, fmt.Sprint(item))
		}
		return values, nil
	case map[string]any:
		return nil, errors.New("is a map; keys are flat, as the flags of `hubd serve --help`")
	default:
		return []string{fmt.Sprint(v)}, nil
	}
}

func setKey(fs *pflag.FlagSet, key string, values []string, source string) error {
	f := fs.Lookup(key)
	if f == nil || key == "help" || key == "config" {
		return fmt.Errorf("%s: there is no such key; see the flags in `hubd serve --help`", source)
	}
	if f.Changed {
		return nil
	}
	if list, ok := f.Value.(pflag.SliceValue); ok && len(values) != 1 {
		if err := list.Replace(values); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		f.Changed = true
		return nil
	}
	if len(values) != 1 {
		return fmt.Errorf("%s: takes one value, not a list", source)
	}
	if err := fs.Set(key, values[0]); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// Check returns nil, or an error that names the first key that is wrong and
// says what it takes.
func (c *Config) Check() error {
	checks := []func() error{c.checkFolders, c.checkAddresses, c.checkStore, c.checkNATS, c.checkLimits, c.checkLog}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func bad(key, format string, args ...any) error {
	return fmt.Errorf("config key %s: %s", key, fmt.Sprintf(format, args...))
}

func (c *Config) checkFolders() error {
	if c.Data == "" {
		return bad("data", "name the folder that shall hold the hub's state, as --data ./tetherline-data")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return bad("tls-cert", "needs tls-key, and tls-key needs tls-cert")
	}
	if c.TLSCA != "" && c.TLSCert == "" {
		return bad("tls-ca", "goes with tls-cert; the self-made certificate has a CA of its own")
	}
	return nil
}

func (c *Config) checkAddresses() error {
	for key, address := range map[string]string{"listen": c.Listen, "operator-listen": c.OperatorListen, "proxy-listen": c.ProxyListen} {
		if address == "" && key != "listen" {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return bad(key, "%q is no address; it takes host:port, as 127.0.0.1:8443", address)
		}
	}
	if c.ProxyListen != "" {
		host, _, _ := net.SplitHostPort(c.ProxyListen)
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.IsLoopback() {
			return bad("proxy-listen", "%q is not a loopback address: plaintext is served to a proxy on this machine only", c.ProxyListen)
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "wss" || u.Host == "" || u.RawQuery != "" || u.User != nil {
			return bad("public-url", "%q is not of the form wss://host[:port][/path]", c.PublicURL)
		}
	}
	for _, cidr := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return bad("trusted-proxies", "%q is no CIDR, as 127.0.0.1/32", cidr)
		}
	}
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			return bad("allowed-origins", "%q is no origin, as https://panel.example.org", origin)
		}
	}
	return nil
}

func (c *Config) checkStore() error {
	if c.InfluxURL == "" {
		for key, value := range map[string]string{"influx-token": c.InfluxToken, "influx-token-file": c.InfluxTokenFile, "influx-org": c.InfluxOrg, "influx-bucket": c.InfluxBucket, "influx-database": c.InfluxDatabase, "influx-retention-policy": c.InfluxRetention} {
			if value != "" {
				return bad(key, "is set, but influx-url is not")
			}
		}
	} else {
		u, err := url.Parse(c.InfluxURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return bad("influx-url", "%q is no URL, as http://127.0.0.1:8086", c.InfluxURL)
		}
		if c.InfluxBucket == "" {
			return bad("influx-bucket", "is needed with influx-url")
		}
	}
	if c.RetentionAge < 0 {
		return bad("retention-age", "is negative")
	}
	if c.RetentionBytes != 0 && c.RetentionBytes < 1<<20 {
		return bad("retention-bytes", "is under 1 MiB; 0 means no bound")
	}
	return nil
}

func (c *Config) checkNATS() error {
	switch c.Replicas {
	case 0, 1, 3, 5:
	default:
		return bad("replicas", "%d is none of 1, 3, 5, and 0 for as many as the cluster allows", c.Replicas)
	}
	if c.Replicas > 1 && c.NATSURL == "" {
		return bad("replicas", "above 1 needs nats-url: the embedded server is one node")
	}
	for key, value := range map[string]string{"nats-creds": c.NATSCreds, "nats-user": c.NATSUser, "nats-password": c.NATSPassword, "nats-ca": c.NATSCA} {
		if value != "" && c.NATSURL == "" {
			return bad(key, "is set, but nats-url is not")
		}
	}
	if c.BufferBytes < 1<<20 {
		return bad("buffer-bytes", "%d is under 1 MiB (1048576)", c.BufferBytes)
	}
	if c.QuarantineBytes < 1<<20 {
		return bad("quarantine-bytes", "%d is under 1 MiB (1048576)", c.QuarantineBytes)
	}
	return nil
}

func (c *Config) checkLimits() error {
	if c.Heartbeat < 5*time.Second || c.Heartbeat > 30*time.Minute {
		return bad("heartbeat", "%v is not within 5s to 30m", c.Heartbeat)
	}
	if c.WindowBytes < 64<<10 {
		return bad("window-bytes", "%d is under one frame (65536)", c.WindowBytes)
	}
	if c.InfluxTimeout < time.Second {
		return bad("influx-timeout", "%v is under 1s", c.InfluxTimeout)
	}
	if c.RotationGrace < 0 {
		return bad("rotation-grace", "is negative")
	}
	if c.CommandHistory < time.Hour {
		return bad("command-history", "%v is under 1h", c.CommandHistory)
	}
	for key, value := range map[string]float64{
		"window-frames": float64(c.WindowFrames), "device-frames": c.DeviceFrames, "device-bytes": c.DeviceBytes,
		"max-devices": float64(c.MaxDevices), "max-handshakes": float64(c.MaxHandshakes), "address-rate": c.AddressRate,
	} {
		if !(value >= 1) {
			return bad(key, "%v is under 1", value)
		}
	}
	return nil
}

func (c *Config) checkLog() error {
	if _, err := parseLevel(c.LogLevel); err != nil {
		return bad("log-level", "%q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return bad("log-format", "%q is none of text, json", c.LogFormat)
	}
	return nil
}
