package hub

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/tetherline/tetherline/commands/jsstore"
)

// Check returns nil, or an error that names the first key that is wrong and
// says what it takes.
func (c *Config) Check() error {
	checks := []func() error{c.checkFolders, c.checkAddresses, c.checkStore, c.checkNATS, c.checkMQTT, c.checkLimits, c.checkLog}
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
	if c.CommandBytes < jsstore.MinMaxBytes {
		return bad("command-bytes", "%d is under 16 MiB (16777216)", c.CommandBytes)
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
