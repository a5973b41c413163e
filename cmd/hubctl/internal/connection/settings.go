// Package connection finds out which hub is meant and with which token, and
// connects to its API.
package connection

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/contexts"
)

// DefaultHub is asked when nothing names another.
const DefaultHub = "https://127.0.0.1:8443"

// ErrSettings wraps what is wrong with the way a hub was named.
var ErrSettings = errors.New("cannot connect")

// Given is what the command line says.
type Given struct {
	Hub     string
	Token   string // the token itself, or @FILE
	CA      string // a file
	Data    string // data folder of a hub on this machine
	Context string
}

// Settings say how to reach a hub.
type Settings struct {
	Hub       string // scheme, host and port
	Token     string
	TokenFrom string // for people: where the token came from; "": none was given
	CA        []byte // PEM; nil: the system's roots
	CAFrom    string
	Context   string // the saved context in use; "": none
}

// Resolve puts the settings together. Each of hub, token and CA comes from
// the first of: its flag; the context named by flag; the data folder (where
// the hub has written down its address); its variable; the context named by variable, or else the current one. Those
// last two count only when nothing before them names a hub, so that their
// token never goes to another one.
func Resolve(given Given, env func(string) string, load func() (contexts.File, error)) (Settings, error) {
	var s Settings
	steps := []func() error{
		func() error { return s.take(given.Hub, given.Token, given.CA, "--token", "--ca") },
		func() error { return s.context(given.Context, load) },
		func() error { return s.dataFolder(given.Data) },
		func() error {
			return s.take(env("TETHERLINE_HUB"), env("TETHERLINE_TOKEN"), env("TETHERLINE_CA"),
				"TETHERLINE_TOKEN", "TETHERLINE_CA")
		},
		func() error {
			if s.Hub != "" || s.Context != "" || given.Data != "" {
				return nil
			}
			if name := env("TETHERLINE_CONTEXT"); name != "" {
				return s.context(name, load)
			}
			f, err := load()
			if err != nil {
				return err
			}
			return s.context(f.Current, load)
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Settings{}, err
		}
	}
	if s.Hub == "" {
		s.Hub = DefaultHub
	}
	hub, err := hubURL(s.Hub)
	if err != nil {
		return Settings{}, err
	}
	s.Hub = hub
	return s, nil
}

// take fills what is still open.
func (s *Settings) take(hub, token, ca, tokenFrom, caFrom string) error {
	if s.Hub == "" {
		s.Hub = hub
	}
	if s.Token == "" && token != "" {
		if file, ok := strings.CutPrefix(token, "@"); ok {
			return errors.Join(s.tokenFile(file, tokenFrom+", file "+file), s.caFile(ca, caFrom))
		}
		t, err := checkToken(token, tokenFrom)
		if err != nil {
			return err
		}
		s.Token, s.TokenFrom = t, tokenFrom
	}
	return s.caFile(ca, caFrom)
}

func (s *Settings) tokenFile(file, from string) error {
	if s.Token != "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: token of %s: %w", ErrSettings, from, err)
	}
	t, err := checkToken(string(raw), from)
	if err != nil {
		return err
	}
	s.Token, s.TokenFrom = t, from
	return nil
}

// checkToken never repeats the token: the text goes to screens and logs.
func checkToken(token, from string) (string, error) {
	token = strings.TrimSpace(token)
	if token == "" {
		return "", fmt.Errorf("%w: the token of %s is empty", ErrSettings, from)
	}
	for _, r := range token {
		if r <= ' ' || r >= 0x7f {
			return "", fmt.Errorf("%w: what %s gives is not a token: one line of plain characters is expected", ErrSettings, from)
		}
	}
	return token, nil
}

func (s *Settings) caFile(file, from string) error {
	if file == "" || s.CA != nil {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: CA of %s: %w", ErrSettings, from, err)
	}
	s.CA, s.CAFrom = raw, from+", file "+file
	return nil
}

func (s *Settings) context(name string, load func() (contexts.File, error)) error {
	if name == "" {
		return nil
	}
	f, err := load()
	if err != nil {
		return err
	}
	c, err := f.Get(name)
	if err != nil {
		return fmt.Errorf("%w: %w; 'hubctl context ls' lists them", ErrSettings, err)
	}
	s.Context = name
	from := "context " + name
	if c.CAPEM != "" && s.CA == nil {
		s.CA, s.CAFrom = []byte(c.CAPEM), from
	}
	if c.TokenFile != "" {
		if err := s.tokenFile(c.TokenFile, from+", file "+c.TokenFile); err != nil {
			return err
		}
	}
	return s.take(c.Hub, c.Token, "", from, from)
}

func (s *Settings) dataFolder(dir string) error {
	if dir == "" {
		return nil
	}
	token := filepath.Join(dir, "admin.token")
	if err := s.tokenFile(token, "--data, file "+token); err != nil {
		return fmt.Errorf("%w (is %s the data folder of a hub that has been started once?)", err, dir)
	}
	if s.Hub == "" {
		hub, err := operatorURL(dir)
		if err != nil {
			return err
		}
		s.Hub = hub
	}
	ca := filepath.Join(dir, "ca.pem")
	if _, err := os.Stat(ca); err != nil {
		return nil // a hub with a certificate of a known authority has none
	}
	return s.caFile(ca, "--data")
}

// operatorURL is where the hub of a data folder has said that operators find
// it; "" where it has not.
func operatorURL(dir string) (string, error) {
	file := filepath.Join(dir, "operator.url")
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil // of an older hub
	case err != nil:
		return "", fmt.Errorf("%w: address of --data: %w", ErrSettings, err)
	case len(raw) > maxAddress:
		return "", fmt.Errorf("%w: %s is no address", ErrSettings, file)
	}
	return strings.TrimSpace(string(raw)), nil
}

// maxAddress bounds an address, in bytes.
const maxAddress = 512

// hubURL is the address in the form scheme://host[:port]. Plain HTTP is only
// for this machine: a token must not cross a network in the clear.
func hubURL(raw string) (string, error) {
	text := raw
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return "", fmt.Errorf("%w: %q is no hub address; it looks like https://hub.example:8443", ErrSettings, raw)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%w: a hub address has no user, query or fragment; the token goes into --token", ErrSettings)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !loopback(u.Hostname()) {
			return "", fmt.Errorf("%w: %s would send the token in the clear: use https (http is for 127.0.0.1, ::1 and localhost)", ErrSettings, raw)
		}
	case "ws", "wss":
		return "", fmt.Errorf("%w: %s is the address for devices; operators use https://%s", ErrSettings, raw, u.Host)
	default:
		return "", fmt.Errorf("%w: %s: the address of a hub begins with https://", ErrSettings, raw)
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Address is the host and port of the hub, as it is dialed.
func (s Settings) Address() string {
	u, err := url.Parse(s.Hub)
	if err != nil {
		return s.Hub
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
