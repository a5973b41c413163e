package mqttbridge

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
)

// LoadConfig reads and checks a config file. Unknown keys are errors; errors
// name the line or the broker and key, and quote nothing of the file but what
// is wrong. File names in the result are absolute or relative to the working
// folder.
func LoadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the config of the MQTT bridge: %w", err)
	}
	var c Config
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return Config{}, fmt.Errorf("%s: %s", path, yamlError(err))
	}
	for i := range c.Brokers {
		b := &c.Brokers[i]
		for _, file := range []*string{&b.PasswordFile, &b.CA, &b.Cert, &b.Key} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(filepath.Dir(path), *file)
			}
		}
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// yamlError is an error of the YAML library in one line: "[line:column] …",
// without the excerpt of the file.
func yamlError(err error) string {
	return strings.TrimSpace(yaml.FormatError(err, false, false))
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (c *Config) check() error {
	if len(c.Brokers) == 0 {
		return errors.New("brokers: there is none")
	}
	if len(c.Brokers) > MaxBrokers {
		return fmt.Errorf("brokers: %d; at most %d", len(c.Brokers), MaxBrokers)
	}
	names := make(map[string]bool)
	for i := range c.Brokers {
		b := &c.Brokers[i]
		if !namePattern.MatchString(b.Name) {
			return fmt.Errorf("broker %d: name %.80q is not 1 to 32 letters, digits, '_' or '-'", i+1, b.Name)
		}
		if names[b.Name] {
			return fmt.Errorf("broker %s: there are two of that name", b.Name)
		}
		names[b.Name] = true
		if err := b.check(); err != nil {
			return fmt.Errorf("broker %s: %w", b.Name, err)
		}
	}
	return nil
}

func (b *BrokerConfig) check() error {
	if err := b.checkAddress(); err != nil {
		return err
	}
	if n := b.MaxPendingBytes; n != 0 && (n < MinPendingBytes || n > MaxPendingBytes) {
		return fmt.Errorf("max-pending-bytes: %d is not within %d to %d", n, MinPendingBytes, MaxPendingBytes)
	}
	if d := b.KeepAlive; d != 0 && (d < 2*time.Second || d > 10*time.Minute) {
		return fmt.Errorf("keep-alive: %v is not within 2s to 10m", d)
	}
	if len(b.Profiles) == 0 && b.Publish == nil {
		return errors.New("has neither profiles nor publish: nothing to do")
	}
	if len(b.Profiles) > MaxProfiles {
		return fmt.Errorf("profiles: %d; at most %d", len(b.Profiles), MaxProfiles)
	}
	names := make(map[string]bool)
	for i := range b.Profiles {
		p := &b.Profiles[i]
		if p.Name == "" {
			p.Name = p.Kind
		}
		if names[p.Name] {
			return fmt.Errorf("profile %s: there are two of that name; give one another `name`", p.Name)
		}
		names[p.Name] = true
		if err := p.check(); err != nil {
			return fmt.Errorf("profile %.80s: %w", p.Name, err)
		}
	}
	if err := b.Publish.check(); err != nil {
		return err
	}
	return b.checkLoops()
}

func (b *BrokerConfig) checkAddress() error {
	if b.URL == EmbeddedURL {
		if b.User != "" || b.PasswordFile != "" || b.CA != "" || b.Cert != "" || b.Key != "" {
			return fmt.Errorf("url: %s needs no user, password-file, ca, cert or key", EmbeddedURL)
		}
		return nil
	}
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "tcp" && u.Scheme != "ssl" || u.Path != "" || u.RawQuery != "" {
		return errors.New("url: it takes tcp://host:port, ssl://host:port or embedded")
	}
	if u.User != nil {
		return errors.New("url: it holds a user; use the keys user and password-file")
	}
	if host, port, err := net.SplitHostPort(u.Host); err != nil || host == "" || port == "" {
		return fmt.Errorf("url: %q is not of the form host:port", u.Host)
	}
	if u.Scheme == "tcp" && (b.CA != "" || b.Cert != "" || b.Key != "") {
		return errors.New("url: ca, cert and key need ssl://")
	}
	if (b.Cert == "") != (b.Key == "") {
		return errors.New("cert: needs key, and key needs cert")
	}
	if b.PasswordFile != "" && b.User == "" {
		return errors.New("password-file: needs user")
	}
	if len(b.ClientID) > 128 || strings.ContainsFunc(b.ClientID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("client-id: it takes up to 128 printable characters")
	}
	if _, err := b.password(); err != nil {
		return err
	}
	_, err = b.tlsConfig()
	return err
}

func (p *ProfileConfig) check() error {
	if !namePattern.MatchString(p.Name) {
		return fmt.Errorf("name %.80q is not 1 to 32 letters, digits, '_' or '-'", p.Name)
	}
	kind, ok := profile.KindOf(p.Kind)
	if !ok {
		var all []string
		for _, k := range profile.Kinds() {
			all = append(all, k.Name)
		}
		return fmt.Errorf("kind: %.80q is none of %s", p.Kind, strings.Join(all, ", "))
	}
	if _, err := kind.New(p.decodeSettings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if p.Silence != nil && *p.Silence != 0 && *p.Silence < time.Second {
		return fmt.Errorf("silence: %v is under 1s: it takes a number with its unit, as 5m; 0 means never", *p.Silence)
	}
	if p.IDPrefix != "" && (device.CheckID(p.IDPrefix) != nil || len(p.IDPrefix) > 32) {
		return fmt.Errorf("id-prefix: %.80q is not up to 32 letters, digits, '_' or '-'", p.IDPrefix)
	}
	for _, glob := range p.AutoAllow {
		if glob == "" || len(glob) > profile.MaxGearBytes {
			return fmt.Errorf("auto-allow: a pattern has 1 to %d bytes", profile.MaxGearBytes)
		}
	}
	if n := p.MaxDevices; n < 0 || n > profile.MaxGear {
		return fmt.Errorf("max-devices: %d is not within 1 to %d; 0 means %d", n, profile.MaxGear, DefaultMaxDevices)
	}
	if err := registry.CheckLabels(p.Labels); err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	return p.checkDevices()
}

func (p *ProfileConfig) checkDevices() error {
	gear, ids := make(map[string]bool), make(map[string]string)
	for i := range p.Devices {
		d := &p.Devices[i]
		if err := checkGearName(d.Gear); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if d.ID == "" {
			d.ID = deviceID(p.IDPrefix, d.Gear)
		}
		if err := device.CheckID(d.ID); err != nil {
			return fmt.Errorf("devices: gear %s: id: %w", d.Gear, err)
		}
		if gear[d.Gear] {
			return fmt.Errorf("devices: gear %s is there twice", d.Gear)
		}
		if other, taken := ids[d.ID]; taken {
			return fmt.Errorf("devices: gear %s and gear %s have the id %s both; give one another `id`", other, d.Gear, d.ID)
		}
		gear[d.Gear], ids[d.ID] = true, d.Gear
		if err := registry.CheckLabels(d.Labels); err != nil {
			return fmt.Errorf("devices: gear %s: labels: %w", d.Gear, err)
		}
	}
	return nil
}

func (p *PublishConfig) check() error {
	if p == nil {
		return nil
	}
	for key, value := range map[string]string{"prefix": p.Prefix, "discovery": p.Discovery} {
		if strings.ContainsAny(value, "+#\x00") || strings.HasPrefix(value, "$") || strings.HasPrefix(value, "/") || strings.HasSuffix(value, "/") {
			return fmt.Errorf("publish: %s: %.80q is no topic: without '+', '#', '$' at its beginning or '/' at its ends", key, value)
		}
	}
	if _, err := registry.ParseSelector(p.Selector); err != nil {
		return fmt.Errorf("publish: selector: %w", err)
	}
	return nil
}

// decodeSettings decodes the settings of the profile's kind, strictly.
func (p *ProfileConfig) decodeSettings(into any) error {
	if p.Settings == nil {
		return nil
	}
	if _, null := p.Settings.(*ast.NullNode); null {
		return nil
	}
	if err := yaml.NodeToValue(p.Settings, into, yaml.Strict()); err != nil {
		return errors.New(yamlError(err))
	}
	return nil
}
