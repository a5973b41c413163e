package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/tetherline/tetherline/device"
)

// Credentials is what a device knows its hub by, and is known by.
type Credentials struct {
	Current device.Credential
	// Next has come in-band and is not proved yet; nil: none. It is tried
	// before Current and takes its place once the hub has accepted it.
	Next *device.Credential
}

// CredentialStore keeps the credentials of one device over restarts. A Client
// makes one call at a time.
type CredentialStore interface {
	Load() (Credentials, error)
	// Save is durable and atomic: after a crash Load returns what was saved
	// before or what is saved now.
	Save(Credentials) error
}

// MemoryStore is a CredentialStore that ends with the process: for simulated
// devices. A real device would lock itself out by forgetting a rotation.
type MemoryStore struct {
	mu sync.Mutex
	c  Credentials
}

// NewMemoryStore makes a store that holds one credential.
func NewMemoryStore(c device.Credential) *MemoryStore {
	return &MemoryStore{c: Credentials{Current: c}}
}

// Load implements CredentialStore.
func (s *MemoryStore) Load() (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c, nil
}

// Save implements CredentialStore.
func (s *MemoryStore) Save(c Credentials) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c = c
	return nil
}

// File is the device file that `hubctl device create ID --out device.json`
// writes: everything a device needs to find and know its hub. It is secret.
type File struct {
	HubURL     string `json:"hub_url"`   // wss://host:port/v1/device
	DeviceID   string `json:"device_id"` // as in the credential
	Credential string `json:"credential"`
	// NextCredential has come in-band and is not proved yet; "": none.
	NextCredential string `json:"next_credential,omitempty"`
	CAPEM          string `json:"ca_pem,omitempty"` // certificates; "": those of the system
}

// ErrBadFile wraps what is wrong with a device file. It never quotes a
// credential.
var ErrBadFile = errors.New("bad device file")

const maxFileBytes = 1 << 20

// LoadFile reads and checks a device file.
func LoadFile(path string) (File, error) {
	_, f, err := readFile(path)
	return f, err
}

// readFile also returns every key of the file, for Save to keep those that
// are not ours.
func readFile(path string) (map[string]json.RawMessage, File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, File{}, fmt.Errorf("device file: %w", err)
	}
	if info.Size() > maxFileBytes {
		return nil, File{}, fmt.Errorf("%w: %s: more than %d bytes", ErrBadFile, path, maxFileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, File{}, fmt.Errorf("device file: %w", err)
	}
	var f File
	keys := map[string]json.RawMessage{}
	if json.Unmarshal(data, &f) != nil || json.Unmarshal(data, &keys) != nil {
		return nil, File{}, fmt.Errorf("%w: %s: not JSON of the expected form", ErrBadFile, path)
	}
	if _, err := f.Credentials(); err != nil {
		return nil, File{}, fmt.Errorf("%s: %w", path, err)
	}
	return keys, f, nil
}

// Credentials of the file. Errors wrap ErrBadFile.
func (f *File) Credentials() (Credentials, error) {
	current, err := f.parse("credential", f.Credential)
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{Current: current}
	if f.NextCredential != "" {
		next, err := f.parse("next_credential", f.NextCredential)
		if err != nil {
			return Credentials{}, err
		}
		c.Next = &next
	}
	return c, nil
}

func (f *File) parse(key, text string) (device.Credential, error) {
	c, err := device.ParseCredential(text)
	if err != nil {
		return c, fmt.Errorf("%w: %s: %w", ErrBadFile, key, err)
	}
	if f.DeviceID != "" && f.DeviceID != c.ID {
		return c, fmt.Errorf("%w: %s: is of device %q, not %.80q", ErrBadFile, key, c.ID, f.DeviceID)
	}
	return c, nil
}

// Save writes the file with mode 0600, atomically and durably.
func (f *File) Save(path string) error {
	if _, err := f.Credentials(); err != nil {
		return err
	}
	return saveJSON(path, f)
}

// FileStore is a CredentialStore in a device file. Keys of the file that it
// does not know stay as they are.
type FileStore struct{ path string }

// NewFileStore keeps the credentials in the device file at path.
func NewFileStore(path string) *FileStore { return &FileStore{path: path} }

// Load implements CredentialStore.
func (s *FileStore) Load() (Credentials, error) {
	f, err := LoadFile(s.path)
	if err != nil {
		return Credentials{}, err
	}
	return f.Credentials()
}

// Save implements CredentialStore.
func (s *FileStore) Save(c Credentials) error {
	keys, _, err := readFile(s.path)
	if err != nil {
		return err
	}
	// Strings of letters, digits, '.', '-' and '_' are JSON as they are.
	keys["credential"] = json.RawMessage(`"` + c.Current.Encode() + `"`)
	delete(keys, "next_credential")
	if c.Next != nil {
		keys["next_credential"] = json.RawMessage(`"` + c.Next.Encode() + `"`)
	}
	return saveJSON(s.path, keys)
}

func saveJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write device file: %w", err)
	}
	if err := replaceFile(path, append(data, '\n')); err != nil {
		return fmt.Errorf("write device file: %w", err)
	}
	return nil
}

// replaceFile puts data in the place of path: after a crash there is the old
// content or the new. The mode is 0600.
func replaceFile(path string, data []byte) error {
	// A link stays a link to the file that is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames, creations and removals in dir durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
