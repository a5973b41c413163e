package hubtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/tetherline/tetherline/hub"
)

// childEnv carries the config to a test binary that is to be a hub.
const childEnv = "TETHERLINE_TEST_HUB_CONFIG"

// Main is for TestMain: where this process was started by StartProcess it
// becomes the hub and does not return.
func Main() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var cfg hub.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ReportMemory(cfg.Data)
	profiles := new(profiler)
	profiles.turn()
	profiles.turnOnSignal()
	h, err := hub.New(ctx, cfg, hub.Options{Version: "test", Logger: hub.NewLogger(cfg, os.Stderr)})
	if err == nil {
		err = h.Run(ctx)
	}
	profiles.end()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is a hub in a process of its own.
type Process struct {
	Endpoint
	cfg hub.Config
	t   testing.TB
	cmd *exec.Cmd

	ended chan struct{} // closed when cmd is gone, and err is how
	err   error

	profile string // the file for its CPU profile; "": it writes none
}

// StartProcess runs a hub as a process of its own until the test ends. The
// test's TestMain must call Main. cfg.Listen must name a port (FreeAddr), so
// that the hub comes back where its devices look for it.
func StartProcess(t testing.TB, cfg hub.Config) *Process {
	t.Helper()
	p := &Process{cfg: cfg, t: t}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Kill()
		}
		if p.transport != nil {
			p.Close()
		}
	})
	p.Start()
	return p
}

// Start starts the hub again, after Kill or Terminate, and waits until it is
// ready. A hub that ends instead fails the test at once.
func (p *Process) Start() {
	p.t.Helper()
	text, err := json.Marshal(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.profile = newProfile()
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text), ProfileEnv+"="+p.profile)
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start a hub process: %v", err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.ended = ended
	go func() {
		p.err = cmd.Wait()
		close(ended)
	}()
	Eventually(p.t, "hub process is ready", func() bool {
		select {
		case <-ended:
			p.t.Fatalf("the hub process has ended instead of getting ready, which says why above: %v", p.err)
		default:
		}
		return p.ready()
	})
	if p.transport == nil {
		p.Endpoint = Connect(p.t, p.cfg.Data, p.cfg.Listen)
	}
}

func (p *Process) ready() bool {
	if p.transport == nil {
		if _, err := os.Stat(p.cfg.Data + "/ca.pem"); err != nil {
			return false
		}
		if _, err := os.Stat(p.cfg.Data + "/admin.token"); err != nil {
			return false
		}
		p.Endpoint = Connect(p.t, p.cfg.Data, p.cfg.Listen)
	}
	c := &http.Client{Transport: p.transport}
	answer, err := c.Get("https://" + p.cfg.Listen + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode == http.StatusOK
}

// PID of the hub's process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Data is the hub's data folder.
func (p *Process) Data() string { return p.cfg.Data }

// Kill ends the hub with SIGKILL and waits until it is gone. Where it writes a
// profile, it ends that before.
func (p *Process) Kill() {
	p.t.Helper()
	p.endProfile()
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
	p.transport.CloseIdleConnections()
}

// Signal sends a signal to the hub's process.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal the hub: %v", err)
	}
}

// Terminate ends the hub with SIGTERM and returns its exit error.
func (p *Process) Terminate() error {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	<-p.ended
	p.cmd = nil
	p.transport.CloseIdleConnections()
	return p.err
}
