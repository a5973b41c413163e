package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is written by the program while the test reads it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// refuses runs the program, which must end by itself with status 1, and
// returns what it says.
func refuses(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var said output
	if status := run(ctx, args, environ, io.Discard, &said); status != 1 {
		t.Errorf("hubd %v: exit status %d; want 1", args, status)
	}
	return said.String()
}

// serve runs a hub until the test ends it, and returns when it is up.
func serve(t *testing.T, args ...string) (said *output, stop func() int) {
	t.Helper()
	said = new(output)
	ctx, cancel := context.WithCancel(context.Background())
	status := make(chan int, 1)
	go func() { status <- run(ctx, append([]string{"serve"}, args...), nil, io.Discard, said) }()
	stopped, result := false, 0
	stop = func() int {
		if !stopped {
			stopped = true
			cancel()
			result = <-status
		}
		return result
	}
	t.Cleanup(func() { stop() })
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(said.String(), "hub is up") {
		if time.Now().After(deadline) {
			t.Fatalf("hub is not up: %s", said)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return said, stop
}

func TestServeEndsWithStatus0WhenAsked(t *testing.T) {
	said, stop := serve(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	if status := stop(); status != 0 {
		t.Errorf("exit status %d: %s", status, said)
	}
	if !strings.Contains(said.String(), "stopped") {
		t.Errorf("says no end: %s", said)
	}
}

func TestServeSaysWhatKeepsItFromStarting(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	for name, tt := range map[string]struct {
		environ, args []string
		want          []string
	}{
		"no folder":        {nil, []string{"serve"}, []string{"hubd: ", "data", "--data"}},
		"port in use":      {nil, []string{"serve", "--data", t.TempDir(), "--listen", busy.Addr().String()}, []string{"listen", busy.Addr().String(), "in use"}},
		"unknown flag":     {nil, []string{"serve", "--dta=x"}, []string{"--dta"}},
		"unknown variable": {[]string{"TETHERLINE_DTA=x"}, []string{"serve", "--data", "x"}, []string{"TETHERLINE_DTA"}},
		"no config file":   {[]string{"TETHERLINE_CONFIG=/nowhere.yaml"}, []string{"serve", "--data", "x"}, []string{"/nowhere.yaml"}},
		"a word too many":  {nil, []string{"serve", "now"}, []string{"now"}},
		"unknown command":  {nil, []string{"server"}, []string{"server"}},
	} {
		said := refuses(t, tt.environ, tt.args...)
		for _, want := range tt.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: says %q; want %q in it", name, said, want)
			}
		}
	}
}

func TestSecondHubOnAFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, stop := serve(t, "--data", dir, "--listen", "127.0.0.1:0")
	if said := refuses(t, nil, "serve", "--data", dir, "--listen", "127.0.0.1:0"); !strings.Contains(said, "another hub runs on this data folder") || !strings.Contains(said, dir) {
		t.Errorf("says %q", said)
	}
	if status := stop(); status != 0 {
		t.Errorf("the first hub ends with %d", status)
	}
}

// The demo ends by itself, and its status says whether every row came home.
func TestDemoEndsWithItsSummary(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var said, logs output
	if status := run(ctx, []string{"demo", "--for", "3s", "--devices", "5", "--listen", "127.0.0.1:0"}, nil, &said, &logs); status != 0 {
		t.Fatalf("exit status %d:\n%s\n%s", status, &said, &logs)
	}
	for _, want := range []string{"https://127.0.0.1:", "Operator token: ", "device ls", "workshop-plug", "ssl://127.0.0.1:",
		"Every row that a device or a piece of gear published is acknowledged and stored."} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("does not say %q:\n%s", want, &said)
		}
	}
	if regexp.MustCompile(`(?m)^readings of gear +0 `).MatchString(said.String()) {
		t.Errorf("the gear has published nothing:\n%s", &said)
	}
}
