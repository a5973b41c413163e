// Package contexts keeps the hubs that an operator works with, by name, in
// one file that only its owner can read.
package contexts

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"
)

// ErrNotFound is a name that is not in the file.
var ErrNotFound = errors.New("no such context")

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Context is how to reach one hub.
type Context struct {
	Hub       string `yaml:"hub"`
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"` // absolute; instead of Token
	CAPEM     string `yaml:"ca_pem,omitempty"`     // empty: the system's roots
}

// File is the content of the file. The zero value is an empty one.
type File struct {
	Current  string             `yaml:"current,omitempty"`
	Contexts map[string]Context `yaml:"contexts,omitempty"`
}

// Path is where the file is: below XDG_CONFIG_HOME, else below the user's own
// configuration folder.
func Path(env func(string) string) (string, error) {
	dir := env("XDG_CONFIG_HOME")
	if dir == "" || !filepath.IsAbs(dir) { // a relative one counts as unset, as XDG says
		home := env("HOME")
		if home == "" {
			d, err := os.UserConfigDir()
			if err != nil {
				return "", fmt.Errorf("no place for saved contexts: set XDG_CONFIG_HOME: %w", err)
			}
			return filepath.Join(d, "tetherline", "hubctl.yaml"), nil
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "tetherline", "hubctl.yaml"), nil
}

// Load reads the file; one that does not exist is an empty one. loose says
// that others than its owner may read it.
func Load(path string) (f File, loose bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, false, nil
	}
	if err != nil {
		return File{}, false, fmt.Errorf("read saved contexts: %w", err)
	}
	if info, err := os.Stat(path); err == nil {
		loose = exposed(info.Mode())
	}
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		// Without the excerpt of the source: it may show a token.
		return File{}, loose, fmt.Errorf("saved contexts in %s: %s", path, yaml.FormatError(err, false, false))
	}
	return f, loose, nil
}

// Save replaces the file in one step, with mode 0600 in a folder of 0700.
func (f File) Save(path string) error {
	raw, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode saved contexts: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write saved contexts: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".hubctl-*.yaml") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write saved contexts: %w", err)
	}
	_, err = tmp.Write(raw)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write saved contexts: %w", err)
	}
	return nil
}

// Get is the context of that name.
func (f File) Get(name string) (Context, error) {
	c, ok := f.Contexts[name]
	if !ok {
		return Context{}, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return c, nil
}

// Put adds or replaces a context.
func (f *File) Put(name string, c Context) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("context name %q: letters, digits, '.', '_' and '-', at most 64, the first a letter or digit", name)
	}
	if f.Contexts == nil {
		f.Contexts = map[string]Context{}
	}
	f.Contexts[name] = c
	return nil
}

// Remove forgets a context.
func (f *File) Remove(name string) error {
	if _, err := f.Get(name); err != nil {
		return err
	}
	delete(f.Contexts, name)
	if f.Current == name {
		f.Current = ""
	}
	return nil
}

// Names are those of all contexts, in order.
func (f File) Names() []string {
	return slices.Sorted(maps.Keys(f.Contexts))
}
