package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const hubPackage = "github.com/tetherline/tetherline/cmd/hubd"

// FindHubd is the hub's program that a proof runs, and where it was found:
// what wish names; else the one beside this program; else, for `go run` in
// the source tree, one built from that tree into dir; else the one in the
// PATH.
func FindHubd(ctx context.Context, wish, dir string) (path, where string, err error) {
	if wish != "" {
		if path, err = exec.LookPath(wish); err != nil {
			return "", "", fmt.Errorf("hubd: %w", err)
		}
		path, err = filepath.Abs(path)
		return path, "as told", err
	}
	name := "hubd"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	own, err := os.Executable()
	if err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(own), name)); err == nil {
			return path, "beside this program", nil
		}
	}
	// `go run` and `go test` put their programs into folders of this name. Who
	// runs them wants what stands in the tree, not what is installed.
	if strings.Contains(own, "go-build") {
		if path, err := buildHubd(ctx, filepath.Join(dir, name)); err == nil {
			return path, "built from the source tree", nil
		} else if !errors.Is(err, errNoTree) {
			return "", "", err
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, "in the PATH", nil
	}
	return "", "", errors.New("there is no hubd beside this program or in the PATH: " +
		"build it (make build, or go build -o bin/ ./cmd/...), or name it with --hubd")
}

var errNoTree = errors.New("not in the source tree")

func buildHubd(ctx context.Context, target string) (string, error) {
	if err := exec.CommandContext(ctx, "go", "list", hubPackage).Run(); err != nil {
		return "", errNoTree
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", target, hubPackage).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build hubd: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return target, nil
}
