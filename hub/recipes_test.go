package hub_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// recipe is a part of the operators' page that is tried as it stands: a config
// of the bridge and commands. What follows "# " behind a command are words
// that its answer has.
type recipe struct {
	name   string
	config string
	lines  []string
}

const recipeBroker = "tcp://127.0.0.1:1883"

var recipePattern = regexp.MustCompile("(?s)\n### ([^\n]+)\n(?:[^#]|#[^#])*?<!-- recipe -->\n```yaml\n(.*?)```\n```sh\n(.*?)```\n")

func recipes(t *testing.T) (found []recipe) {
	t.Helper()
	page, err := os.ReadFile(operatorPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range recipePattern.FindAllStringSubmatch(string(page), -1) {
		found = append(found, recipe{name: m[1], config: m[2], lines: strings.Split(strings.TrimSpace(m[3]), "\n")})
	}
	if marks := strings.Count(string(page), "<!-- recipe -->"); len(found) != marks || marks < 9 {
		t.Fatalf("%d recipes are understood of %d; want at least 9", len(found), marks)
	}
	return found
}

// Every recipe of the operators' page for legacy gear works as it is written,
// with simulated gear on a real Mosquitto and the programs as users have them.
func TestRecipesWorkAsWritten(t *testing.T) {
	bin := programs(t)
	for _, r := range recipes(t) {
		t.Run(r.name, func(t *testing.T) { r.try(t, bin) })
	}
	t.Run("own broker", func(t *testing.T) { tryOwnBroker(t, bin) })
}

// programs builds what users have.
func programs(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator), "../cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return bin
}

// place is where the lines of a recipe are run.
type place struct {
	dir string
	env []string
}

func (r recipe) try(t *testing.T, bin string) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	here := func(text string) string { return strings.ReplaceAll(text, recipeBroker, broker.URL) }
	cfg := hubtest.Config(t)
	cfg.MQTTBridge = filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(cfg.MQTTBridge, []byte(here(r.config)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hubtest.Start(t, cfg)
	at := place{t.TempDir(), []string{"PATH=" + bin + ":/usr/bin:/bin", "TETHERLINE_HUB=" + h.URL, "TETHERLINE_TOKEN=" + h.Token,
		"TETHERLINE_CA=" + h.Hub.CAFile(), "TZ=UTC", "HOME=" + t.TempDir()}}
	for _, line := range r.lines {
		at.run(t, here(line))
	}
	if trouble := at.shell(t, "hubctl bridge ls barn -o json"); strings.Contains(trouble, `"reason"`) || !strings.Contains(trouble, broker.URL) {
		t.Errorf("the bridge has problems:\n%s", trouble)
	}
}

// run a line of a recipe. What only looks is repeated until the answer has
// the words: readings take a moment.
func (at place) run(t *testing.T, line string) {
	t.Helper()
	command, words, _ := strings.Cut(line, " # ")
	if program, ok := strings.CutSuffix(strings.TrimSpace(command), "&"); ok {
		at.background(t, program)
		return
	}
	once := strings.Contains(command, " send ")
	for deadline := time.Now().Add(hubtest.Patience); ; time.Sleep(100 * time.Millisecond) {
		answer, missing := at.shell(t, command), ""
		for _, word := range strings.Split(strings.TrimSpace(words), ", ") {
			if !strings.Contains(answer, word) {
				missing = word
			}
		}
		if missing == "" {
			return
		}
		if once || time.Now().After(deadline) {
			t.Fatalf("%s\nhas no %q in its answer:\n%s", command, missing, answer)
		}
	}
}

// background runs a program until the test ends.
func (at place) background(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Dir, cmd.Env = at.dir, at.env
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, said.String())
		}
	})
}

func (at place) shell(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir, cmd.Env = at.dir, at.env
	out, _ := cmd.CombinedOutput() // its end is in the words
	return string(out)
}

var ownBrokerPattern = regexp.MustCompile("(?s)<!-- users recipe -->\n```yaml\n(.*?)```\n.*<!-- embedded recipe -->\n```yaml\n(.*?)```\n```sh\n(.*?)```\n")

// tryOwnBroker tries the recipe of the hub's own broker, with users and topic
// rights.
func tryOwnBroker(t *testing.T, bin string) {
	page, err := os.ReadFile(operatorPage)
	if err != nil {
		t.Fatal(err)
	}
	parts := ownBrokerPattern.FindStringSubmatch(string(page))
	if parts == nil {
		t.Fatal("the page has no recipe for the hub's own broker")
	}
	const password = "a password of the test"
	at := place{t.TempDir(), []string{"PATH=" + bin + ":/usr/bin:/bin", "PASSWORD=" + password, "TZ=UTC", "HOME=" + t.TempDir()}}
	hash := strings.TrimSpace(at.shell(t, "printf '%s' \"$PASSWORD\" | hubd mqtt-password"))
	if !strings.HasPrefix(hash, "$2a$") {
		t.Fatalf("hubd mqtt-password says %q", hash)
	}
	for name, text := range map[string]string{"users.yaml": strings.Replace(parts[1], "$2a$10$...", hash, 1), "bridge.yaml": parts[2]} {
		if err := os.WriteFile(filepath.Join(at.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := hubtest.FreeAddr(t)
	for _, line := range strings.Split(strings.TrimSpace(parts[3]), "\n") {
		line = strings.ReplaceAll(line, "127.0.0.1:8883", addr)
		if serve, ok := strings.CutSuffix(line, "&"); ok && strings.HasPrefix(line, "hubd serve") {
			at.background(t, serve+" --listen 127.0.0.1:0") // the page takes the default
			at.run(t, "hubctl --data hub-data status # ready")
			continue
		}
		at.run(t, line)
	}
}
