package hub

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// Prefix of the environment variables that set keys.
const envPrefix = "TETHERLINE_"

// foreignEnv are variables with the prefix that belong to other programs of
// the project.
var foreignEnv = map[string]bool{
	"TETHERLINE_HUB": true, "TETHERLINE_TOKEN": true, "TETHERLINE_CA": true, "TETHERLINE_CONTEXT": true,
	"TETHERLINE_CACHE": true, "TETHERLINE_INFLUXD": true, "TETHERLINE_CONFIG": true,
}

// ApplyEnv sets every flag of fs that was not given from environ ("K=V"). A
// variable with the prefix that names no key is an error, so that a slip of
// the pen never goes unseen.
func ApplyEnv(fs *pflag.FlagSet, environ []string) error {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || foreignEnv[name] || strings.HasPrefix(name, "TETHERLINE_TEST_") {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		if err := setKey(fs, key, []string{value}, "environment variable "+name); err != nil {
			return err
		}
	}
	return nil
}

// ApplyFile sets every flag of fs that was not given, neither on the command
// line nor in the environment, from a YAML file: a flat map of keys.
func ApplyFile(fs *pflag.FlagSet, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read config file: %w", err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(text, &keys); err != nil {
		// Without the excerpt: the line may hold a token.
		return fmt.Errorf("config file %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		values, err := yamlValues(keys[name])
		if err != nil {
			return fmt.Errorf("config file %s: key %s: %w", path, name, err)
		}
		if err := setKey(fs, name, values, "config file "+path+": key "+name); err != nil {
			return err
		}
	}
	return nil
}

func yamlValues(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return []string{""}, nil
	case []any:
		values := make([]string, 0, len(v))
		for _, item := range v {
			if strings.Contains(fmt.Sprint(item), ",") {
				return nil, fmt.Errorf("list item %q holds a comma", item)
			}
			values = append(values, fmt.Sprint(item))
		}
		return values, nil
	case map[string]any:
		return nil, errors.New("is a map; keys are flat, as the flags of `hubd serve --help`")
	default:
		return []string{fmt.Sprint(v)}, nil
	}
}

func setKey(fs *pflag.FlagSet, key string, values []string, source string) error {
	f := fs.Lookup(key)
	if f == nil || key == "help" || key == "config" {
		return fmt.Errorf("%s: there is no such key; see the flags in `hubd serve --help`", source)
	}
	if f.Changed {
		return nil
	}
	if list, ok := f.Value.(pflag.SliceValue); ok && len(values) != 1 {
		if err := list.Replace(values); err != nil {
			return fmt.Errorf("%s: %w", source, FlagError(err))
		}
		f.Changed = true
		return nil
	}
	if len(values) != 1 {
		return fmt.Errorf("%s: takes one value, not a list", source)
	}
	if err := fs.Set(key, values[0]); err != nil {
		return fmt.Errorf("%s: %w", source, FlagError(err))
	}
	return nil
}
