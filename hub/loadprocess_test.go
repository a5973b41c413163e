package hub_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
)

// roleEnv makes this test binary something else than a test: "role argument".
// What measures and what is measured are processes of their own, so that the
// system's word on a process is about one of them alone, and each has its own
// descriptors.
const roleEnv = "TETHERLINE_TEST_ROLE"

// roles, by name. Each ends the process when its input ends.
var roles = map[string]func(argument string) error{
	"load":         loadRole,
	"bare-server":  bareServerRole,
	"bare-devices": bareDevicesRole,
	"direct":       directRole,
	"gear":         gearRole,
	"mqtt-devices": mqttDevicesRole,
	"strangers":    strangersRole,
}

// roleMain is for TestMain.
func roleMain() {
	name, argument, _ := strings.Cut(os.Getenv(roleEnv), " ")
	if name == "" {
		return
	}
	if err := roles[name](argument); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// rolePlayer is a running role, as seen by the test: it says a line and waits
// for one.
type rolePlayer struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// play starts a role. It goes with the test.
func play(t testing.TB, name string, argument any) *rolePlayer {
	t.Helper()
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	p := &rolePlayer{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+name+" "+string(text))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReaderSize(out, 64<<10)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

// end closes the input of the role and waits until it is gone.
func (p *rolePlayer) end() {
	_ = p.in.Close()
	timer := time.AfterFunc(hubtest.Patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait()
}

// hear the next line.
func (p *rolePlayer) hear() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("a process of the measurement has ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// await a line that must come next.
func (p *rolePlayer) await(want string) {
	p.t.Helper()
	if got := p.hear(); got != want {
		p.t.Fatalf("a process of the measurement says %q; want %q", got, want)
	}
}

// goOn lets the role go on.
func (p *rolePlayer) goOn() {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// say a line and wait for the word to go on.
func say(input *bufio.Reader, line string) error {
	fmt.Println(line)
	_, err := input.ReadString('\n')
	return err
}

// loadArgument is a load of a hub. Stages: the process says each of them and
// waits.
type loadArgument struct {
	Config firmwaresim.LoadConfig
	CA     []byte
	Stages bool
}

// loadRole runs a load and says its summary.
func loadRole(argument string) error {
	var a loadArgument
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	a.Config.RootCAs = x509.NewCertPool()
	a.Config.RootCAs.AppendCertsFromPEM(a.CA)
	if a.Stages {
		input := bufio.NewReader(os.Stdin)
		a.Config.Stage = func(stage string) error { return say(input, stage) }
	}
	summary, err := firmwaresim.Load(context.Background(), a.Config)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary)
}

// startLoad starts a load of the hub in a process of its own.
func startLoad(t testing.TB, h *hubtest.Process, stages bool, cfg firmwaresim.LoadConfig) *rolePlayer {
	t.Helper()
	cfg.Hub, cfg.Token, cfg.HubPID, cfg.WaitUntilStored = h.URL, h.Token, h.PID(), true
	return play(t, "load", loadArgument{Config: cfg, CA: readFile(t, h.Data(), "ca.pem"), Stages: stages})
}

// load runs a load of the hub to its end.
func load(t testing.TB, h *hubtest.Process, cfg firmwaresim.LoadConfig) firmwaresim.LoadSummary {
	t.Helper()
	s := loadThrough(t, h, cfg)
	if s.Reconnects != 0 {
		t.Fatalf("%d devices lost their connection: %+v", s.Reconnects, s)
	}
	return s
}

// loadThrough is load where a device may lose its connection, as one does on a
// machine that is busy with strangers: no frame may be lost by it.
func loadThrough(t testing.TB, h *hubtest.Process, cfg firmwaresim.LoadConfig) firmwaresim.LoadSummary {
	t.Helper()
	return summaryOf(t, startLoad(t, h, false, cfg))
}

// summaryOf a load that is under way, of which no frame may be lost.
func summaryOf(t testing.TB, p *rolePlayer) (s firmwaresim.LoadSummary) {
	t.Helper()
	line := p.hear()
	p.end()
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("summary of a load: %v in %q", err, line)
	}
	lasting := s
	lasting.Reconnects = 0
	if err := wantWhole(lasting); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantWhole says what a summary must not have: a figure of a hub that loses
// frames is worth nothing.
func wantWhole(s firmwaresim.LoadSummary) error {
	if s.FramesRejected != 0 || s.FramesDropped != 0 || s.Refused != 0 || s.Reconnects != 0 {
		return fmt.Errorf("the load was not taken: %+v", s)
	}
	if s.Hub == nil {
		return errors.New("the load tells nothing of the hub's process")
	}
	return nil
}
