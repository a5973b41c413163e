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
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator), "../cmd/hubctl", "../cmd/firmware-sim")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	for _, r := range recipes(t) {
		t.Run(r.name, func(t *testing.T) { r.try(t, bin) })
	}
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
	env := []string{"PATH=" + bin + ":/usr/bin:/bin", "TETHERLINE_HUB=" + h.URL, "TETHERLINE_TOKEN=" + h.Token,
		"TETHERLINE_CA=" + h.Hub.CAFile(), "TZ=UTC", "HOME=" + t.TempDir()}
	for _, line := range r.lines {
		command, words, _ := strings.Cut(here(line), " # ")
		if gear, ok := strings.CutSuffix(strings.TrimSpace(command), "&"); ok {
			background(t, env, gear)
			continue
		}
		once := strings.Contains(command, " send ")
		var answer string
		for deadline := time.Now().Add(hubtest.Patience); ; time.Sleep(100 * time.Millisecond) {
			answer = shell(t, env, command)
			missing := ""
			for _, word := range strings.Split(strings.TrimSpace(words), ", ") {
				if !strings.Contains(answer, word) {
					missing = word
				}
			}
			if missing == "" {
				break
			}
			if once || time.Now().After(deadline) {
				t.Fatalf("%s\nhas no %q in its answer:\n%s\n%s", command, missing, answer, shell(t, env, "hubctl bridge ls barn"))
			}
		}
	}
	if trouble := shell(t, env, "hubctl bridge ls barn -o json"); strings.Contains(trouble, `"reason"`) {
		t.Errorf("the bridge has problems:\n%s", trouble)
	}
}

// background runs a program until the test ends.
func background(t *testing.T, env []string, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+command)
	cmd.Env = env
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

func shell(t *testing.T, env []string, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Env = env
	out, _ := cmd.CombinedOutput() // its end is in the words
	return string(out)
}
