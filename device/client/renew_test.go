package client

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func writeFile(t *testing.T, c Credentials) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.json")
	f := File{HubURL: "wss://hub.example:8443/v1/device", DeviceID: "dev-1", Credential: c.Current.Encode()}
	if c.Next != nil {
		f.NextCredential = c.Next.Encode()
	}
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *peerConn) renew(generation uint32) {
	c.t.Helper()
	nonce := [device.RenewNonceBytes]byte{byte(generation)}
	next := testCredential(generation).Secret
	c.send(&devicev1.HubFrame{Frame: &devicev1.HubFrame_Renew{Renew: &devicev1.Renew{
		Generation: generation, Nonce: nonce[:],
		SealedSecret: c.secret().SealRenewal(&c.transcript, next, generation, nonce),
	}}})
}

func TestRenewedCredentialTakesOver(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	path := writeFile(t, Credentials{Current: testCredential(1)})
	cfg.Credentials = NewFileStore(path)
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1)
	conn.telemetry(1)
	conn.renew(2)
	conn = hub.accept(t)
	// It is on disk before it is used.
	if saved, err := NewFileStore(path).Load(); err != nil || saved.Next == nil || *saved.Next != testCredential(2) || saved.Current != testCredential(1) {
		t.Fatalf("saved %v %v", saved, err)
	}
	conn.welcome()
	if conn.hello.Generation != 2 {
		t.Fatalf("generation %d", conn.hello.Generation)
	}
	conn.telemetry(1) // not acknowledged: sent again
	conn.ack(1)
	wantFlushed(t, c)
	if saved, err := NewFileStore(path).Load(); err != nil || saved.Next != nil || saved.Current != testCredential(2) {
		t.Fatalf("saved %v %v", saved, err)
	}
	if c.Stats().Generation != 2 {
		t.Fatalf("%+v", c.Stats())
	}
}

// A process that dies between any two steps comes back with a credential that
// works, whether the hub knows the next one as proved or not.
func TestRenewSurvivesACrashAtEveryStep(t *testing.T) {
	one, two := testCredential(1), testCredential(2)
	for name, tc := range map[string]struct {
		saved  Credentials
		hub    []uint32 // generations that the hub accepts
		hellos []uint32
		end    device.Credential
	}{
		"before it was saved":            {Credentials{Current: one}, []uint32{1, 2}, []uint32{1}, one},
		"saved, not proved":              {Credentials{Current: one, Next: &two}, []uint32{1, 2}, []uint32{2}, two},
		"proved, not saved as current":   {Credentials{Current: one, Next: &two}, []uint32{2}, []uint32{2}, two},
		"saved as current":               {Credentials{Current: two}, []uint32{2}, []uint32{2}, two},
		"hub has forgotten the next one": {Credentials{Current: one, Next: &two}, []uint32{1}, []uint32{2, 1}, one},
	} {
		t.Run(name, func(t *testing.T) {
			hub := newPeer(t)
			cfg := hub.config()
			path := writeFile(t, tc.saved)
			cfg.Credentials = NewFileStore(path)
			c := start(t, cfg)
			for _, want := range tc.hellos {
				conn := hub.accept(t)
				if slices.Contains(tc.hub, want) {
					conn.welcome()
				} else {
					conn.challenge()
					conn.close(4500, "")
				}
				if conn.hello.Generation != want {
					t.Fatalf("Hello of generation %d, want %d", conn.hello.Generation, want)
				}
			}
			eventually(t, "online", func() bool { return c.State() == Online })
			if saved, err := NewFileStore(path).Load(); err != nil || saved.Current != tc.end || saved.Next != nil {
				t.Fatalf("saved %v %v", saved, err)
			}
		})
	}
}

func TestNeitherCredentialWorks(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	two := testCredential(2)
	store := NewMemoryStore(testCredential(1))
	store.c.Next = &two
	cfg.Credentials = store
	c := start(t, cfg)
	for _, generation := range []uint32{2, 1} {
		conn := hub.accept(t)
		conn.challenge()
		if conn.hello.Generation != generation {
			t.Fatalf("generation %d", conn.hello.Generation)
		}
		conn.close(4500, "")
	}
	if err := c.wait(t); !errors.Is(err, ErrUnauthorized) {
		t.Fatal(err)
	}
}

func TestRenewWithoutAPlaceToKeepItIsLeft(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.Credentials, cfg.Credential = nil, testCredential(1)
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.renew(2)
	c.publish(t, 1)
	conn.telemetry(1)
	if c.Stats().Sessions != 1 {
		t.Fatal("reconnected")
	}
}

type failingStore struct{ CredentialStore }

func (failingStore) Save(Credentials) error { return errors.New("disk full") }

func TestRenewThatCannotBeSavedIsLeft(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	cfg.Credentials = failingStore{NewMemoryStore(testCredential(1))}
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	conn.renew(2)
	c.publish(t, 1)
	conn.telemetry(1)
}

func TestFileKeepsForeignKeysAndIsPrivate(t *testing.T) {
	path := writeFile(t, Credentials{Current: testCredential(1)})
	data, _ := os.ReadFile(path)
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	keys["site"] = "north"
	data, _ = json.Marshal(keys)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	two := testCredential(2)
	if err := NewFileStore(path).Save(Credentials{Current: testCredential(1), Next: &two}); err != nil {
		t.Fatal(err)
	}
	data, _ = os.ReadFile(path)
	keys = nil
	if err := json.Unmarshal(data, &keys); err != nil || keys["site"] != "north" || keys["next_credential"] != two.Encode() {
		t.Fatalf("%v %v", keys, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestBadFiles(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":     "hello",
		"other device": `{"device_id":"other","credential":"` + testCredential(1).Encode() + `"}`,
		"bad":          `{"credential":"tl1.secret-words.1.x"}`,
		"bad next":     `{"credential":"` + testCredential(1).Encode() + `","next_credential":"x"}`,
	} {
		path := filepath.Join(t.TempDir(), "device.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadFile(path); !errors.Is(err, ErrBadFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{URL: "wss://hub.example", Credential: testCredential(1)}
	for key, change := range map[string]func(*Config){
		"URL":             func(c *Config) { c.URL = "https://hub" },
		"ws://":           func(c *Config) { c.URL = "ws://127.0.0.1:1" },
		"user":            func(c *Config) { c.URL = "wss://u:p@hub" },
		"Credential":      func(c *Config) { c.Credential = device.Credential{} },
		"MaxBatchRows":    func(c *Config) { c.MaxBatchRows = 1001 },
		"MaxBatchBytes":   func(c *Config) { c.MaxBatchBytes = 100 },
		"Spool":           func(c *Config) { c.Spool = NewMemorySpool(100) },
		"Firmware":        func(c *Config) { c.Firmware = string(make([]byte, 65)) },
		"HeartbeatWish":   func(c *Config) { c.HeartbeatWish = time.Second },
		"BackoffMin":      func(c *Config) { c.BackoffMin = time.Hour },
		"Commands":        func(c *Config) { c.Commands = map[string]Handler{"x": {}} },
		"command journal": func(c *Config) { c.JournalPath = "/dev/null/x" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	c, err := New(good)
	if err != nil || c.cfg.URL != "wss://hub.example/v1/device" {
		t.Fatalf("%v %v", c, err)
	}
	c.Close()
}
