package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/registry"
)

func TestKeyringIsMadeOnceAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	first, err := registry.LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	second, err := registry.LoadKeyring(path)
	if err != nil || second.ActiveID() != first.ActiveID() {
		t.Fatalf("second load: %v, %v", second, err)
	}
	a, ok := first.Secret(first.ActiveID(), "d", 1)
	b, _ := second.Secret(first.ActiveID(), "d", 1)
	if !ok || a != b {
		t.Error("the same key gives different secrets")
	}
	if c, _ := first.Secret(first.ActiveID(), "d", 2); c == a {
		t.Error("two generations have one secret")
	}
	if _, ok := first.Secret("other", "d", 1); ok {
		t.Error("secret from a key that is not there")
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files left behind: %v, %v", entries, err)
	}
	text, _ := os.ReadFile(path)
	key := strings.Fields(strings.Split(string(text), "\n")[2])[1]
	for _, s := range []string{fmt.Sprint(first), fmt.Sprintf("%+v", first), fmt.Sprintf("%#v", first)} {
		if strings.Contains(s, key) || strings.Contains(s, "keys:") {
			t.Errorf("formatting shows the key: %s", s)
		}
	}
}

func TestKeyringWithSeveralKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	line := func(id string, b byte) string { return id + " " + strings.Repeat(string(b), 42) + "A\n" }
	write(t, path, "# new on top\n"+line("new", 'B')+"\n"+line("old", 'C'), 0o600)
	k, err := registry.LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	if k.ActiveID() != "new" {
		t.Errorf("active key %s, want the first", k.ActiveID())
	}
	a, okA := k.Secret("new", "d", 1)
	b, okB := k.Secret("old", "d", 1)
	if !okA || !okB || a == b {
		t.Error("both keys must give secrets, and different ones")
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestKeyringRefuses(t *testing.T) {
	good := "k1 " + strings.Repeat("B", 42) + "A"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"group readable": {good, 0o640, "chmod 600"},
		"world readable": {good, 0o604, "chmod 600"},
		"empty":          {"", 0o600, "holds no key"},
		"comments only":  {"# x\n", 0o600, "holds no key"},
		"one word":       {"k1", 0o600, "line 1"},
		"short":          {"k1 QUJD", 0o600, "32 bytes"},
		"zeros":          {"k1 " + strings.Repeat("A", 43), 0o600, "all zeros"},
		"twice":          {good + "\n" + good, 0o600, "line 2"},
		"bad id":         {"k/1 " + strings.Repeat("B", 42) + "A", 0o600, "key id"},
		"padding bits":   {"k1 " + strings.Repeat("B", 43), 0o600, "32 bytes"},
		"something else": {strings.Repeat("x", 70000), 0o600, "longer"},
	} {
		path := filepath.Join(t.TempDir(), "master.key")
		write(t, path, c.text, c.mode)
		_, err := registry.LoadKeyring(path)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "BBBB") || strings.Contains(err.Error(), "QUJD") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

// A hub whose devices need a key that is gone must say so, and must not put
// a new one in its place.
func TestOpenKeyringGuardsDevices(t *testing.T) {
	r := newRegistry(t)
	path := filepath.Join(t.TempDir(), "master.key")
	k, err := r.OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	create(t, r, registry.NewDevice{ID: "d", KeyID: k.ActiveID()})
	if _, err := r.OpenKeyring(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".bak"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.OpenKeyring(path); err == nil || !strings.Contains(err.Error(), "is missing, but 1 devices") {
		t.Errorf("with the file gone: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a new key was made")
	}
	if _, err := registry.LoadKeyring(path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.OpenKeyring(path); err == nil || !strings.Contains(err.Error(), k.ActiveID()) {
		t.Errorf("with another key: %v; want the id of the missing one", err)
	}
}
