// Package influxtest runs a real InfluxDB 1.8 for tests, on loopback and in a
// temporary folder. It is the server that `make test` builds; a test that
// cannot find it fails, it is never skipped.
package influxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// EnvBinary names the environment variable with the path of influxd. Without
// it the binary is looked for in $PATH, then in the user's cache folder.
const EnvBinary = "TETHERLINE_INFLUXD"

// Bounds of waiting for the server; generous, for a loaded machine.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	portAttempts = 20
)

// Server is a running or stopped InfluxDB with one database. Its methods may
// be called from any goroutine, but not two of Start, Stop and Kill at once.
type Server struct {
	URL    string // "http://127.0.0.1:port", the same after every Start
	Bucket string // "tetherline/autogen": database and retention policy
	Org    string // any value will do for a 1.8 server
	Token  string // "user:password", or "" without WithAuth

	tb     testing.TB
	binary string
	dir    string
	opts   options
	http   *http.Client

	mu   sync.Mutex
	proc *process // nil: not running
}

type options struct {
	user, password string
	settings       []string
}

// Option changes how the server is run.
type Option func(*options)

// WithAuth makes the server refuse whoever does not bring Server.Token.
func WithAuth(user, password string) Option {
	return func(o *options) { o.user, o.password = user, password }
}

// WithSetting adds one "INFLUXDB_SECTION_KEY=value" of the server's own
// environment, for example "INFLUXDB_HTTP_MAX_BODY_SIZE=1024" or
// "INFLUXDB_HTTP_FLUX_ENABLED=true".
func WithSetting(setting string) Option {
	return func(o *options) { o.settings = append(o.settings, setting) }
}

// Start runs a server until the test ends, with an empty database. It
// returns when the server answers.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s := &Server{
		Bucket: "tetherline/autogen",
		Org:    "tetherline",
		tb:     tb,
		binary: findBinary(tb),
		dir:    tb.TempDir(),
		http:   &http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	for _, o := range opts {
		o(&s.opts)
	}
	tb.Cleanup(s.Kill)
	s.startOnFreePort()
	if s.opts.user != "" {
		s.query("CREATE USER " + quoteIdent(s.opts.user) + " WITH PASSWORD '" + s.opts.password + "' WITH ALL PRIVILEGES")
		s.Token = s.opts.user + ":" + s.opts.password
	}
	s.Query("CREATE DATABASE tetherline")
	return s
}

// Start runs the stopped server again, on the same port and data folder, and
// returns when it answers.
func (s *Server) Start() {
	s.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.run()
		if err == nil {
			return
		}
		// Somebody may hold the port for a moment.
		if !errors.Is(err, errExited) || time.Now().After(deadline) {
			s.tb.Fatalf("influxtest: start again on %s: %v", s.URL, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Stop ends the server in good order and returns when it is gone.
func (s *Server) Stop() {
	s.tb.Helper()
	p := s.take()
	if p == nil {
		return
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		s.tb.Fatalf("influxtest: stop: %v", err)
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		s.tb.Fatalf("influxtest: the server did not stop within %v:\n%s", stopTimeout, p.log.tail())
	}
}

// Kill ends the server with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	p := s.take()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// PID is the process id of the running server; 0: it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Query runs InfluxQL statements on the database, through no code of ours,
// and returns the server's JSON. The test fails when a statement does.
func (s *Server) Query(influxQL string) []byte {
	s.tb.Helper()
	return s.query(influxQL)
}

func (s *Server) query(influxQL string) []byte {
	s.tb.Helper()
	form := url.Values{"db": {"tetherline"}, "epoch": {"ns"}, "q": {influxQL}}
	req, err := http.NewRequest(http.MethodPost, s.URL+"/query", strings.NewReader(form.Encode()))
	if err != nil {
		s.tb.Fatalf("influxtest: %v", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if s.Token != "" {
		req.Header.Set("Authorization", "Token "+s.Token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.tb.Fatalf("influxtest: query: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.tb.Fatalf("influxtest: query: %v", err)
	}
	var answer struct {
		Error   string
		Results []struct{ Error string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		s.tb.Fatalf("influxtest: query: %v in %s", err, body)
	}
	for _, r := range answer.Results {
		if answer.Error == "" {
			answer.Error = r.Error
		}
	}
	if answer.Error != "" || resp.StatusCode != http.StatusOK {
		s.tb.Fatalf("influxtest: query %q: %s: %s", influxQL, resp.Status, answer.Error)
	}
	return body
}

// startOnFreePort tries ports below the range that systems take for outgoing
// connections, so that a stopped server finds its port free again.
func (s *Server) startOnFreePort() {
	s.tb.Helper()
	var err error
	for range portAttempts {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(12000+rand.IntN(20000)))
		l, lerr := net.Listen("tcp", addr)
		if lerr != nil {
			err = lerr
			continue
		}
		_ = l.Close()
		s.URL = "http://" + addr
		if err = s.run(); err == nil {
			return
		}
		if !errors.Is(err, errExited) {
			break
		}
	}
	s.tb.Fatalf("influxtest: %v", err)
}

func (s *Server) take() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proc
	s.proc = nil
	return p
}

func findBinary(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv(EnvBinary); path != "" {
		if _, err := os.Stat(path); err != nil {
			tb.Fatalf("influxtest: %s: %v; run `make test`, which builds InfluxDB 1.8.10", EnvBinary, err)
		}
		return path
	}
	if path, err := exec.LookPath("influxd"); err == nil {
		return path
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			tb.Fatalf("influxtest: %v", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "tetherline", "bin", "influxd")
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("influxtest: no influxd in $%s, $PATH or %s; run `make test`, which builds InfluxDB 1.8.10", EnvBinary, path)
	}
	return path
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }

// healthy asks once whether the server answers.
func (s *Server) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/health: %s", resp.Status)
	}
	return nil
}
