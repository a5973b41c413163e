package hub

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ticketsFile is the file of ticket keys in the data folder.
const ticketsFile = "tickets.key"

// A new ticket key comes every day, and one is kept for as long as a ticket
// may live (RFC 8446, section 4.6.1).
const (
	ticketKeyAge      = 24 * time.Hour
	ticketKeyLifetime = 7 * 24 * time.Hour
)

// ticketKey encrypts TLS session tickets.
type ticketKey struct {
	made time.Time
	key  [32]byte
}

// tickets keeps the keys of TLS session tickets over restarts. A device that
// comes back, with all the others, after the hub was restarted then resumes
// its TLS session: no certificate is sent, signed for and verified, which is
// most of a small device's work. A resumed session has a key exchange and a
// channel binding of its own, and the proofs are made as ever.
//
// That is so in TLS 1.3. In 1.2 a resumed session has no key exchange, and
// whoever finds the keys in a backup could read what was recorded: there the
// keys are those that crypto/tls keeps in memory, gone with a restart.
type tickets struct {
	path   string
	config *tls.Config
	log    *slog.Logger

	mu   sync.Mutex
	keys []ticketKey // the newest first
}

// openTickets reads the keys of dir, or makes the first, and has config use
// them. A copy of config with get as GetConfigForClient is to be served.
func openTickets(dir string, config *tls.Config, log *slog.Logger) (*tickets, error) {
	t := &tickets{path: filepath.Join(dir, ticketsFile), config: config, log: log}
	text, err := os.ReadFile(t.path)
	if err == nil {
		t.keys, err = parseTicketKeys(text)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Nothing depends on old keys but a quicker handshake.
		log.Warn("ticket keys are not readable; making new ones", "file", t.path, "error", err)
	}
	if t.rotate(time.Now()) {
		if err := t.save(); err != nil {
			return nil, err
		}
	}
	t.use()
	return t, nil
}

// get is for tls.Config.GetConfigForClient of the copy: its keys cannot be
// changed once it is served, those of the original can.
func (t *tickets) get(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rotate(time.Now()) {
		if err := t.save(); err != nil {
			t.log.Warn("new ticket key is not saved; devices that connect now will not resume after a restart", "error", err)
		}
		t.use()
	}
	return t.config, nil
}

// rotate drops keys that are too old and makes one where the newest is due.
// It reports whether there is a new one.
func (t *tickets) rotate(now time.Time) bool {
	if len(t.keys) > 0 && now.Sub(t.keys[0].made) < ticketKeyAge {
		return false
	}
	kept := []ticketKey{{made: now}}
	_, _ = rand.Read(kept[0].key[:]) // never fails
	for _, k := range t.keys {
		if age := now.Sub(k.made); age >= 0 && age < ticketKeyLifetime {
			kept = append(kept, k)
		}
	}
	t.keys = kept
	return true
}

func (t *tickets) use() {
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		keys[i] = k.key
	}
	t.config.SetSessionTicketKeys(keys)
}

// save writes one line a key: the time it was made (RFC 3339) and the key.
func (t *tickets) save() error {
	var b bytes.Buffer
	for _, k := range t.keys {
		fmt.Fprintf(&b, "%s %s\n", k.made.UTC().Format(time.RFC3339), base64.RawURLEncoding.EncodeToString(k.key[:]))
	}
	return writeFile(t.path, b.Bytes(), 0o600)
}

func parseTicketKeys(text []byte) ([]ticketKey, error) {
	var keys []ticketKey
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		made, key, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339, made)
		if err != nil {
			return nil, fmt.Errorf("line %d: no time", len(keys)+1)
		}
		raw, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("line %d: no key of 32 bytes", len(keys)+1)
		}
		keys = append(keys, ticketKey{made: at, key: [32]byte(raw)})
	}
	return keys, nil
}
