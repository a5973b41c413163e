package hub_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/mqtttest"
)

// recipe is a part of the operators' page that is tried as it stands: a config
// of the bridge and commands. What follows "# " behind a command are words
// that its answer has.
type recipe struct {
	name   string
	config string
	block  string // lines for a shell
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
		found = append(found, recipe{name: m[1], config: m[2], block: m[3]})
	}
	if marks := strings.Count(string(page), "<!-- recipe -->"); len(found) != marks || marks < 9 {
		t.Fatalf("%d recipes are understood of %d; want at least 9", len(found), marks)
	}
	for _, kind := range profile.Kinds() {
		if !slices.ContainsFunc(found, func(r recipe) bool { return strings.Contains(r.config, "- kind: "+kind.Name+"\n") }) {
			t.Errorf("no recipe is for gear of kind %s", kind.Name)
		}
	}
	for _, kind := range []string{"shelly1", "shelly2"} {
		if !slices.ContainsFunc(found, func(r recipe) bool { return strings.Contains(r.block, "--kind "+kind+" ") }) {
			t.Errorf("no recipe is for %s", kind)
		}
	}
	return found
}

// Every recipe of the operators' page for legacy gear works as it is written,
// with simulated gear on a real Mosquitto and the programs as users have them.
func TestRecipesWorkAsWritten(t *testing.T) {
	t.Parallel()
	bin := programs(t)
	for _, r := range recipes(t) {
		t.Run(r.name, func(t *testing.T) { t.Parallel(); r.try(t, bin) })
	}
	t.Run("own broker", func(t *testing.T) { t.Parallel(); tryOwnBroker(t, bin) })
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
	connected(t, h.Endpoint) // or the first messages of the gear are not for the hub
	at := place{t.TempDir(), []string{"PATH=" + bin + ":/usr/bin:/bin", "TETHERLINE_HUB=" + h.URL, "TETHERLINE_TOKEN=" + h.Token,
		"TETHERLINE_CA=" + h.Hub.CAFile(), "TZ=UTC", "HOME=" + t.TempDir()}}
	at.paste(t, here(r.block))
	if trouble := at.shell(t, "hubctl bridge ls barn -o json"); strings.Contains(trouble, `"reason"`) || !strings.Contains(trouble, broker.URL) {
		t.Errorf("the bridge has problems:\n%s", trouble)
	}
}

// paste gives a block to a shell at once, as who pastes it does: nothing is
// tried twice. The answer of each line has to have the words behind it; what
// runs in the background is ended in the end, the last one first, and has to
// end well.
func (at place) paste(t *testing.T, block string) {
	t.Helper()
	var script strings.Builder
	lines := strings.Split(strings.TrimSpace(block), "\n")
	for i, line := range lines {
		fmt.Fprintf(&script, "echo '<%d<'\n%s\necho '>%d>'\n", i, line, i)
	}
	script.WriteString(`pids=($(jobs -p))
for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill ${pids[i]}; wait ${pids[i]} || echo "<background job $i ended with $?>"; done
`)
	answer := at.run(t, exec.CommandContext(t.Context(), "bash", "-s"), script.String())
	if strings.Contains(answer, "<background job") {
		t.Errorf("what ran in the background did not end well:\n%s", answer)
	}
	for i, line := range lines {
		command, words, _ := strings.Cut(line, " # ")
		_, said, _ := strings.Cut(answer, fmt.Sprintf("<%d<\n", i))
		said, _, _ = strings.Cut(said, fmt.Sprintf(">%d>\n", i))
		for _, word := range strings.Split(strings.TrimSpace(words), ", ") {
			if !strings.Contains(said, word) {
				t.Errorf("%s\nhas no %q in its answer:\n%s\nall that was said:\n%s", command, word, said, answer)
			}
		}
	}
}

// run a shell with its children, which end with it, and give what they say.
func (at place) run(t *testing.T, cmd *exec.Cmd, script string) string {
	t.Helper()
	cmd.Dir, cmd.Env, cmd.Stdin = at.dir, at.env, strings.NewReader(script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hubtest.Patience
	out, err := cmd.CombinedOutput() // how commands end is in their words
	if t.Context().Err() != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func (at place) shell(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hubtest.Patience)
	defer cancel()
	return at.run(t, exec.CommandContext(ctx, "bash", "-c", command), "")
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
	block := strings.ReplaceAll(parts[3], "127.0.0.1:8883", hubtest.FreeAddr(t))
	at.paste(t, strings.Replace(block, "hubd serve ", "hubd serve --listen 127.0.0.1:0 ", 1)) // the page takes the default
}
