package hub_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/device/client"
	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// hostEnv carries a hostConfig to a test binary that is to be simulated
// devices.
const hostEnv = "TETHERLINE_TEST_DEVICES"

// hostConfig is the simulated devices of one process, which can be killed.
type hostConfig struct {
	URL     string // of the hub, wss://
	CAPEM   string
	Dir     string // of their journals and, where Ledgers is empty, ledgers
	Ledgers string
	Devices []hostedDevice
}

type hostedDevice struct {
	Credential string
	Link       string // the address that leads to the hub
}

// hostMain becomes simulated devices, and does not return, where this process
// was started for that.
func hostMain() {
	text := os.Getenv(hostEnv)
	if text == "" {
		return
	}
	var cfg hostConfig
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		err = cfg.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulated devices:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run runs the devices until standard input ends, which it does with the test.
func (cfg *hostConfig) run() error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cfg.CAPEM))
	ended := make(chan error, len(cfg.Devices)+1)
	for i, d := range cfg.Devices {
		credential, err := device.ParseCredential(d.Credential)
		if err != nil {
			return err
		}
		l, err := openLedger(cmp.Or(cfg.Ledgers, cfg.Dir), credential.ID)
		if err != nil {
			return err
		}
		go func() {
			_, err := firmwaresim.RunDevice(context.Background(), firmwaresim.DeviceConfig{
				Interval: 5 * time.Second, Seed: uint64(i), OnCommand: l.enter,
				Client: client.Config{
					URL: cfg.URL, Credentials: client.NewMemoryStore(credential), RootCAs: roots,
					JournalPath: filepath.Join(cfg.Dir, credential.ID+".journal"),
					BackoffMin:  50 * time.Millisecond, BackoffMax: 2 * time.Second, DialTimeout: 5 * time.Second,
					HeartbeatWish: 5 * time.Second, FlushTimeout: 2 * time.Second,
					NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
						return new(net.Dialer).DialContext(ctx, network, d.Link)
					},
				},
			})
			ended <- fmt.Errorf("device %s ended: %w", credential.ID, err)
		}()
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended <- nil
	}()
	return <-ended
}

// ledger is a device's own record of what it has begun to do, one line a
// command, written before the effect. A kill of the process does not undo it.
type ledger struct {
	mu   sync.Mutex
	file *os.File
}

func openLedger(dir, id string) (*ledger, error) {
	file, err := os.OpenFile(filepath.Join(dir, id+".ledger"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &ledger{file: file}, err
}

func (l *ledger) enter(_, id, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fmt.Fprintf(l.file, "%s %s\n", id, name); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

// ledgerRuns is how often each id has run on the device.
func ledgerRuns(t testing.TB, dir, id string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, id+".ledger"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	runs := map[string]int{}
	for line := range strings.Lines(string(text)) {
		command, _, _ := strings.Cut(line, " ")
		runs[command]++
	}
	return runs
}

// host is a running process of devices.
type host struct {
	t      testing.TB
	config string
	cmd    *exec.Cmd
	stdin  io.Closer
}

func startHost(t testing.TB, cfg hostConfig) *host {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, config: string(text)}
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) start() error {
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = append(os.Environ(), hostEnv+"="+h.config)
	h.cmd.Stderr = os.Stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return err
	}
	h.stdin = stdin
	return h.cmd.Start()
}

// kill ends the process with SIGKILL. That it had ended before is an error.
func (h *host) kill() {
	_ = h.cmd.Process.Kill()
	err := h.cmd.Wait()
	_ = h.stdin.Close()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		h.t.Errorf("a process of devices has ended by itself: %v", err)
	}
}
