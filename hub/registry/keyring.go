package registry

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/tetherline/tetherline/device"
)

// Keyring is the hub's master keys, from a file that only its owner can read.
// Each line is "<key id> <32 bytes, base64url>"; empty lines and those that
// begin with '#' say nothing. The first key makes the secrets of new devices
// and generations; the others go on making those of the devices that were
// made with them, so a key may be added on top but none taken away while a
// device needs it. All methods may run at once.
type Keyring struct {
	path   string
	active string
	keys   map[string]device.MasterKey
}

const (
	maxKeyIDBytes   = 32
	maxKeyringBytes = 64 << 10
)

// LoadKeyring reads the keyring at path, and makes it with one random key
// when there is no such file. It refuses a file that others than its owner
// may read. A hub uses Registry.OpenKeyring, which refuses to make a new key
// where devices need an old one.
func LoadKeyring(path string) (*Keyring, error) {
	k, err := readKeyring(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := createSecretFile(path, newKeyringText()); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return readKeyring(path)
}

// OpenKeyring is LoadKeyring for a hub: it makes a key only when no device
// has ever been made, and returns an error unless it has the keys of every
// device.
func (r *Registry) OpenKeyring(path string) (*Keyring, error) {
	k, err := readKeyring(path)
	if errors.Is(err, fs.ErrNotExist) {
		if n := r.Len(); n > 0 {
			return nil, fmt.Errorf("master key %s is missing, but %d devices were made with it: put the file back from a backup or from another node of this hub; without it none of them can connect", path, n)
		}
		k, err = LoadKeyring(path)
	}
	if err != nil {
		return nil, err
	}
	for d := range r.All(Selector{}, "") {
		if id, ok := k.covers(d); !ok {
			return nil, fmt.Errorf("master key %s has no key %q, which device %s was made with: put back the file that has it, from a backup or from another node of this hub", path, id, d.ID)
		}
	}
	return k, nil
}

// covers reports whether the keyring has the keys of all generations of d, or
// the id of one that it has not.
func (k *Keyring) covers(d *Device) (missing string, ok bool) {
	ids := []string{d.KeyID}
	for _, r := range d.working(time.Now()) {
		ids = append(ids, r.KeyID)
	}
	for _, id := range ids {
		if _, ok := k.keys[id]; !ok {
			return id, false
		}
	}
	return "", true
}

// ActiveID is the key that new devices and generations are made with.
func (k *Keyring) ActiveID() string { return k.active }

// Secret of a generation of a device's credential; false when the keyring
// does not have that key.
func (k *Keyring) Secret(keyID, id string, generation uint32) (device.Secret, bool) {
	key, ok := k.keys[keyID]
	if !ok {
		return device.Secret{}, false
	}
	return key.Secret(id, generation), true
}

// String hides the keys.
func (k *Keyring) String() string { return fmt.Sprintf("keyring of %d keys", len(k.keys)) }

// GoString hides the keys.
func (k *Keyring) GoString() string { return k.String() }

func newKeyringText() []byte {
	var id [4]byte
	var key device.MasterKey
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(key[:])
	return []byte("# Tetherline master key. Every device's credential comes from it: keep a backup,\n" +
		"# let nobody read it, and never take a line away while devices need it.\n" +
		"k" + hex.EncodeToString(id[:]) + " " + base64.RawURLEncoding.EncodeToString(key[:]) + "\n")
}

func readKeyring(path string) (*Keyring, error) {
	text, err := readSecretFile(path, maxKeyringBytes)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	k := &Keyring{path: path, keys: make(map[string]device.MasterKey)}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := k.add(line); err != nil {
			return nil, fmt.Errorf("master key %s, line %d: %w", path, i+1, err)
		}
	}
	if k.active == "" {
		return nil, fmt.Errorf("master key %s holds no key: put it back from a backup", path)
	}
	return k, nil
}

// add reads one line. Its errors never quote the line.
func (k *Keyring) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return errors.New(`a line is "<key id> <key>"`)
	}
	id := fields[0]
	if !validKeyID(id) {
		return fmt.Errorf("a key id is 1 to %d letters, digits, '-' or '_'", maxKeyIDBytes)
	}
	if _, twice := k.keys[id]; twice {
		return fmt.Errorf("key id %s is there twice", id)
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(fields[1])
	if err != nil || len(key) != len(device.MasterKey{}) {
		return fmt.Errorf("key %s is not 32 bytes of base64url", id)
	}
	if slices.Max(key) == 0 {
		return fmt.Errorf("key %s is all zeros", id)
	}
	k.keys[id] = device.MasterKey(key)
	if k.active == "" {
		k.active = id
	}
	return nil
}

func validKeyID(id string) bool {
	return device.CheckID(id) == nil && len(id) <= maxKeyIDBytes
}
