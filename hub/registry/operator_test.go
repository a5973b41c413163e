package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

func createOperator(t *testing.T, r *registry.Registry, name string, role registry.Role, selector string) (registry.Operator, string) {
	t.Helper()
	o, token, err := r.CreateOperator(testContext(t), name, role, parse(t, selector))
	if err != nil {
		t.Fatal(err)
	}
	return o, token
}

func TestOperatorLife(t *testing.T) {
	node := startNode(t, t.TempDir())
	r, other := open(t, node.JetStream()), open(t, node.JetStream())
	made, token := createOperator(t, r, "ann@example.org", registry.RoleViewer, "site=north")
	if !strings.HasPrefix(token, "tlo1.") || len(token) != 48 {
		t.Errorf("token of %d characters", len(token))
	}
	got, ok := r.Authenticate(token)
	if !ok || got.Name != "ann@example.org" || got.Role != registry.RoleViewer || got.Selector.String() != "site=north" ||
		got.Revision != made.Revision || got.Unbound() {
		t.Fatalf("Authenticate = %+v, %v", got, ok)
	}
	eventually(t, "the other node knows the token", func() bool { _, ok := other.Authenticate(token); return ok })
	if _, _, err := r.CreateOperator(testContext(t), "ann@example.org", registry.RoleAdmin, registry.Selector{}); !errors.Is(err, registry.ErrExists) {
		t.Errorf("the same name again: %v, want ErrExists", err)
	}
	for _, wrong := range []string{"", "tlo1.", token[:47], token + "A", "tlo2" + token[4:], token[5:],
		"tlo1." + strings.Repeat("A", 43), token[:47] + "_"} {
		if _, ok := r.Authenticate(wrong); ok {
			t.Errorf("%q is accepted", wrong)
		}
	}
	gone := make(chan string, 4)
	other.OnOperatorChange(func(old, new *registry.Operator) {
		if new == nil {
			gone <- old.Name
		}
	})
	if err := r.DeleteOperator(testContext(t), "ann@example.org"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Authenticate(token); ok {
		t.Error("a deleted operator's token is accepted")
	}
	select {
	case name := <-gone:
		if _, ok := other.Authenticate(token); ok || name != "ann@example.org" {
			t.Errorf("on the other node: %s gone, token accepted: %v", name, ok)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the other node has not heard of the deletion")
	}
	if err := r.DeleteOperator(testContext(t), "ann@example.org"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("second deletion: %v, want ErrNotFound", err)
	}
	again, _ := createOperator(t, r, "ann@example.org", registry.RoleViewer, "")
	if again.Revision == made.Revision {
		t.Error("a new operator of the same name has the old one's revision")
	}
}

func TestOperatorValidation(t *testing.T) {
	r := newRegistry(t)
	for _, name := range []string{"", "a b", "ä", strings.Repeat("x", 65), "a/b", "a\n"} {
		if _, _, err := r.CreateOperator(testContext(t), name, registry.RoleAdmin, registry.Selector{}); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("name %q: %v, want ErrInvalid", name, err)
		}
	}
	for _, role := range []registry.Role{0, 4} {
		if _, _, err := r.CreateOperator(testContext(t), "x", role, registry.Selector{}); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("role %d: %v, want ErrInvalid", role, err)
		}
	}
	createOperator(t, r, ".", registry.RoleViewer, "") // no key of a bucket as it is
}

func TestLastAdminStays(t *testing.T) {
	r := newRegistry(t)
	createOperator(t, r, "root", registry.RoleAdmin, "")
	createOperator(t, r, "bound", registry.RoleAdmin, "site=north")
	if err := r.DeleteOperator(testContext(t), "root"); !errors.Is(err, registry.ErrLastAdmin) {
		t.Fatalf("deleting the last admin of all devices: %v, want ErrLastAdmin", err)
	}
	if err := r.DeleteOperator(testContext(t), "bound"); err != nil {
		t.Errorf("deleting a bound admin: %v", err)
	}
}

// Two admins delete each other at the same time on two nodes: one remains.
func TestAdminsCannotDeleteEachOther(t *testing.T) {
	node := startNode(t, t.TempDir())
	nodes := []*registry.Registry{open(t, node.JetStream()), open(t, node.JetStream())}
	for range 10 {
		for _, name := range []string{"a", "b"} {
			if _, ok := nodes[0].Operator(name); !ok {
				createOperator(t, nodes[0], name, registry.RoleAdmin, "")
			}
		}
		eventually(t, "both nodes know both", func() bool { return len(nodes[0].Operators()) == 2 && len(nodes[1].Operators()) == 2 })
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, name := range []string{"a", "b"} {
			wg.Go(func() { errs[i] = nodes[i].DeleteOperator(testContext(t), name) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), registry.ErrLastAdmin) {
			t.Fatalf("outcomes %v and %v; want one deletion and one ErrLastAdmin", errs[0], errs[1])
		}
	}
}

func TestEnsureAdmin(t *testing.T) {
	node := startNode(t, t.TempDir())
	r := open(t, node.JetStream())
	path := filepath.Join(t.TempDir(), "admin.token")
	made, err := r.EnsureAdmin(testContext(t), path)
	if err != nil || !made {
		t.Fatalf("first: %v, %v", made, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	if o, ok := r.Authenticate(token); !ok || o.Role != registry.RoleAdmin || !o.Unbound() || o.Name != registry.FirstAdmin {
		t.Fatalf("the token of the file is %+v, %v", o, ok)
	}
	if made, err := r.EnsureAdmin(testContext(t), path); err != nil || made {
		t.Errorf("second: %v, %v", made, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if made, err := r.EnsureAdmin(testContext(t), path); err != nil || made {
		t.Errorf("with the file lost: %v, %v", made, err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a token was made although operators exist")
	}
	recovered, err := r.RecoverAdmin(testContext(t), path)
	if err != nil {
		t.Fatal(err)
	}
	text, _ = os.ReadFile(path)
	if o, ok := r.Authenticate(strings.TrimSpace(string(text))); !ok || o.Name != recovered.Name || o.Role != registry.RoleAdmin {
		t.Errorf("recovered token is %+v, %v", o, ok)
	}
	if _, ok := r.Authenticate(token); !ok {
		t.Error("recovery ended the first admin's token")
	}
}

// A crash between file and registry: the token that was printed goes on.
func TestEnsureAdminTakesUpItsFile(t *testing.T) {
	r := newRegistry(t)
	path := filepath.Join(t.TempDir(), "admin.token")
	token := "tlo1." + strings.Repeat("B", 42) + "A"
	write(t, path, token+"\n", 0o600)
	if made, err := r.EnsureAdmin(testContext(t), path); err != nil || !made {
		t.Fatal(made, err)
	}
	if _, ok := r.Authenticate(token); !ok {
		t.Error("the token of the file is not accepted")
	}
	other := newRegistry(t)
	write(t, path, token, 0o644)
	if _, err := other.EnsureAdmin(testContext(t), path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("with a file that others can read: %v", err)
	}
	write(t, path, "rubbish", 0o600)
	if _, err := other.EnsureAdmin(testContext(t), path); err == nil || strings.Contains(err.Error(), "rubbish") {
		t.Errorf("with a file without a token: %v", err)
	}
}

func TestEnsureAdminOnTwoNodesAtOnce(t *testing.T) {
	node := startNode(t, t.TempDir())
	dir := t.TempDir()
	var wg sync.WaitGroup
	made := make([]bool, 2)
	nodes := []*registry.Registry{open(t, node.JetStream()), open(t, node.JetStream())}
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for i := range nodes {
		wg.Go(func() {
			var err error
			if made[i], err = nodes[i].EnsureAdmin(testContext(t), paths[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made[0] == made[1] {
		t.Fatalf("made: %v; want one", made)
	}
	for i, path := range paths {
		if _, err := os.Stat(path); (err == nil) != made[i] {
			t.Errorf("node %d: made %v, file: %v", i, made[i], err)
		}
	}
}
