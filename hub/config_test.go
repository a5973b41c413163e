package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tetherline/tetherline/hub"
)

// configure reads flags, environment and file as `hubd serve` does.
func configure(t testing.TB, args, environ []string, file string) (hub.Config, error) {
	t.Helper()
	c := hub.DefaultConfig()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if err := hub.ApplyEnv(fs, environ); err != nil {
		return c, err
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "hub.yaml")
		writeFile(t, path, []byte(file))
		if err := hub.ApplyFile(fs, path); err != nil {
			return c, err
		}
	}
	return c, nil
}

// A flag wins over the environment, the environment over the file, the file
// over the default.
func TestWhereAKeyComesFrom(t *testing.T) {
	c, err := configure(t,
		[]string{"--listen", "127.0.0.1:1", "--tls-names=flag.example"},
		[]string{"TETHERLINE_LISTEN=127.0.0.1:2", "TETHERLINE_HEARTBEAT=7s", "TETHERLINE_TOKEN=hubctl's", "PATH=/bin", "TETHERLINE_ALLOWED_ORIGINS=https://a.example,https://b.example"},
		"listen: 127.0.0.1:3\nheartbeat: 8s\nmax-devices: 9\nlabel-tags: [site, room]\ntls-names: [file.example]\nretention-age: 24h\n")
	if err != nil {
		t.Fatal(err)
	}
	def := hub.DefaultConfig()
	if c.Listen != "127.0.0.1:1" || c.Heartbeat != 7*time.Second || c.MaxDevices != 9 || c.RetentionAge != 24*time.Hour || c.WindowFrames != def.WindowFrames {
		t.Errorf("got %+v", c)
	}
	if strings.Join(c.LabelTags, " ") != "site room" || strings.Join(c.TLSNames, " ") != "flag.example" || len(c.AllowedOrigins) != 2 {
		t.Errorf("lists: %v, %v, %v", c.LabelTags, c.TLSNames, c.AllowedOrigins)
	}
}

// What is no key, or no value of it, stops the start and is named.
func TestWrongKeysAreNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		args, environ []string
		file          string
		want          string
	}{
		"flag":                 {args: []string{"--lisen=x"}, want: "lisen"},
		"variable":             {environ: []string{"TETHERLINE_LISEN=x"}, want: "TETHERLINE_LISEN"},
		"file":                 {file: "lisen: x\n", want: "lisen"},
		"help in a file":       {file: "help: true\n", want: "help"},
		"value of a flag":      {args: []string{"--heartbeat=soon"}, want: "heartbeat"},
		"value of a variable":  {environ: []string{"TETHERLINE_MAX_DEVICES=many"}, want: "TETHERLINE_MAX_DEVICES"},
		"value in a file":      {file: "heartbeat: soon\n", want: "heartbeat"},
		"a map in a file":      {file: "influx:\n  url: x\n", want: "influx"},
		"a list for one value": {file: "listen: [a, b]\n", want: "listen"},
		"a key twice":          {file: "listen: a\nlisten: b\n", want: "listen"},
		"no YAML":              {file: "listen: [", want: "hub.yaml"},
	} {
		if _, err := configure(t, tt.args, tt.environ, tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %q named", name, err, tt.want)
		}
	}
}

// Every check names the key that is wrong.
func TestConfigChecksNameTheKey(t *testing.T) {
	for key, spoil := range map[string]func(*hub.Config){
		"data":             func(c *hub.Config) { c.Data = "" },
		"tls-cert":         func(c *hub.Config) { c.TLSCert = "x" },
		"tls-ca":           func(c *hub.Config) { c.TLSCA = "x" },
		"listen":           func(c *hub.Config) { c.Listen = "8443" },
		"operator-listen":  func(c *hub.Config) { c.OperatorListen = "x" },
		"proxy-listen":     func(c *hub.Config) { c.ProxyListen = "0.0.0.0:80" },
		"public-url":       func(c *hub.Config) { c.PublicURL = "https://x" },
		"trusted-proxies":  func(c *hub.Config) { c.TrustedProxies = []string{"127.0.0.1"} },
		"allowed-origins":  func(c *hub.Config) { c.AllowedOrigins = []string{"https://x/"} },
		"influx-token":     func(c *hub.Config) { c.InfluxToken = "x" },
		"influx-url":       func(c *hub.Config) { c.InfluxURL = "127.0.0.1:8086" },
		"influx-bucket":    func(c *hub.Config) { c.InfluxURL = "http://127.0.0.1:8086" },
		"retention-age":    func(c *hub.Config) { c.RetentionAge = -1 },
		"retention-bytes":  func(c *hub.Config) { c.RetentionBytes = 1 },
		"replicas":         func(c *hub.Config) { c.Replicas = 3 },
		"nats-user":        func(c *hub.Config) { c.NATSUser = "x" },
		"buffer-bytes":     func(c *hub.Config) { c.BufferBytes = 1 },
		"quarantine-bytes": func(c *hub.Config) { c.QuarantineBytes = 1 },
		"heartbeat":        func(c *hub.Config) { c.Heartbeat = time.Second },
		"window-bytes":     func(c *hub.Config) { c.WindowBytes = 1 },
		"window-frames":    func(c *hub.Config) { c.WindowFrames = 0 },
		"device-frames":    func(c *hub.Config) { c.DeviceFrames = 0 },
		"max-devices":      func(c *hub.Config) { c.MaxDevices = 0 },
		"max-handshakes":   func(c *hub.Config) { c.MaxHandshakes = 0 },
		"address-rate":     func(c *hub.Config) { c.AddressRate = 0 },
		"influx-timeout":   func(c *hub.Config) { c.InfluxTimeout = 0 },
		"rotation-grace":   func(c *hub.Config) { c.RotationGrace = -1 },
		"log-level":        func(c *hub.Config) { c.LogLevel = "loud" },
		"log-format":       func(c *hub.Config) { c.LogFormat = "xml" },
	} {
		c := hub.DefaultConfig()
		c.Data = "somewhere"
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "config key "+key+":") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// A slip in the config file never shows the line that it is in: that may be
// the one with the token.
func TestConfigFileErrorShowsNoSecret(t *testing.T) {
	for _, text := range []string{"influx-token: TOPSECRET: x\n", "influx-token: \"TOPSECRET\nlisten: x\n", "nats-password: TOPSECRET\nnats-password: TOPSECRET\n"} {
		file := filepath.Join(t.TempDir(), "hub.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := hub.DefaultConfig()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		cfg.Flags(fs)
		err := hub.ApplyFile(fs, file)
		if err == nil || strings.Contains(err.Error(), "TOPSECRET") || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}
