package hub_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/tetherline/tetherline/"

// layers is the order of the packages: one may import only those of an
// earlier line, besides its own internal ones. A trailing "/..." covers a
// folder.
var layers = [][]string{
	{"proto/..."},
	{"hub/natsd"},
	{"device"},
	{"device/client"},
	{"telemetry"},
	{"commands"},
	{"hub/registry"},
	{"telemetry/wire"},
	{"telemetry/jsbuffer", "telemetry/influx", "telemetry/sqlite", "telemetry/sinktest"},
	{"commands/jsstore"},
	{"hub/session"},
	{"hub/live"},
	{"hub/gateway"},
	{"hub/mqttbridge/profile"},
	{"hub/mqttbridge"},
	{"hub/api", "hub/dashboard"},
	{"hub"},
	{"firmware-sim"},
	{"cmd/hubd", "cmd/hubctl/...", "cmd/firmware-sim"},
}

// narrow lists packages that may import less than their layer allows.
var narrow = map[string][]string{
	"device":        {"proto/..."},
	"device/client": {"proto/...", "device"},
	"firmware-sim":  {"proto/...", "device", "device/client"},
	"cmd/hubctl":    {"proto/...", "cmd/hubctl/..."},
}

// A package imports only packages of the layers below its own.
func TestPackagesImportOnlyLowerLayers(t *testing.T) {
	seen := 0
	for _, p := range listPackages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		level := layerOf(path)
		if level < 0 {
			if !testSupport(path) {
				t.Errorf("%s is in no layer: add it to the table of layers", path)
			}
			continue
		}
		seen++
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if !ours || sameTree(path, target) {
				continue
			}
			if testSupport(target) && strings.HasSuffix(path, "test") {
				continue
			}
			if got := layerOf(target); got >= level || got < 0 {
				t.Errorf("%s (layer %d) imports %s (layer %d)", path, level, target, got)
			}
			if allowed, ok := narrow[path]; ok && !matchesAny(allowed, target) {
				t.Errorf("%s imports %s; it may import only %v", path, target, allowed)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages checked: go list did not see the module", seen)
	}
}

// testSupport is a package that only tests import: a real server's starter.
func testSupport(path string) bool {
	return strings.HasSuffix(path, "test") && path != "telemetry/sinktest"
}

// sameTree allows a command its own packages below it, and the generated
// packages each other.
func sameTree(path, target string) bool {
	return strings.HasPrefix(path, "cmd/") && strings.HasPrefix(target, path+"/") ||
		strings.HasPrefix(path, "cmd/hubctl/") && strings.HasPrefix(target, "cmd/hubctl/") ||
		strings.HasPrefix(path, "proto/") && strings.HasPrefix(target, "proto/")
}

func layerOf(path string) int {
	for i, layer := range layers {
		if matchesAny(layer, path) {
			return i
		}
	}
	return -1
}

func matchesAny(patterns []string, path string) bool {
	for _, pattern := range patterns {
		prefix, tree := strings.CutSuffix(pattern, "/...")
		if path == prefix || tree && strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
