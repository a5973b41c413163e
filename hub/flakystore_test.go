package hub_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// flakyStore stands before a real InfluxDB and does to writes what InfluxDB
// and what lies before it do at times.
type flakyStore struct {
	*httptest.Server
	behind *httputil.ReverseProxy

	mu        sync.Mutex
	down      bool // answers 503 to everything
	fault     fault
	left      int       // how many more writes have the fault
	quietFrom time.Time // no write may come from here
	quietTo   time.Time // to here
	early     int       // that came all the same
	tooLarge  int       // answers of 413
	requests  int       // writes of at least one row
}

// fault answers a write instead of InfluxDB, or after it. rows are the lines
// of its body. False: it lets the write pass.
type fault func(s *flakyStore, w http.ResponseWriter, r *http.Request, rows int) bool

// Rows of these measurements are refused for ever, and so are bodies of more
// than maxBody bytes. That of failedBy500 is answered as if the store were ill,
// which is well: it takes all others, and says so.
const (
	refusedBy400 = "refused400"
	refusedBy422 = "refused422"
	failedBy500  = "failed500"
	maxBody      = 4 << 10
)

func newFlakyStore(t testing.TB, db *influxtest.Server) *flakyStore {
	t.Helper()
	target, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	s := &flakyStore{behind: httputil.NewSingleHostReverseProxy(target)}
	s.behind.Transport = transport
	s.behind.ErrorLog = log.New(io.Discard, "", 0)
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s
}

func (s *flakyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.isDown() {
		answer(w, http.StatusServiceUnavailable, "", "the disk is being changed")
		return
	}
	if r.URL.Path != "/api/v2/write" {
		s.behind.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rows := bytes.Count(bytes.TrimSpace(body), []byte("\n")) + 1
	if len(bytes.TrimSpace(body)) == 0 {
		rows = 0
	}
	inject := s.write(rows, len(body))
	switch {
	case inject != nil && inject(s, w, r, rows):
	case bytes.Contains(body, []byte(refusedBy400)):
		answer(w, http.StatusBadRequest, "", "partial write: the words of a 400")
	case bytes.Contains(body, []byte(refusedBy422)):
		answer(w, http.StatusUnprocessableEntity, "", "failure writing points: the words of a 422")
	case bytes.Contains(body, []byte(failedBy500)):
		answer(w, http.StatusInternalServerError, "", "the words of a 500")
	case len(body) > maxBody:
		answer(w, http.StatusRequestEntityTooLarge, "", "the words of a 413")
	default:
		s.behind.ServeHTTP(w, r)
	}
}

// write notes one and tells the fault that it shall have.
func (s *flakyStore) write(rows, size int) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.After(s.quietFrom) && now.Before(s.quietTo) {
		s.early++
	}
	if rows == 0 {
		return nil
	}
	s.requests++
	if s.left > 0 {
		s.left--
		return s.fault
	}
	if size > maxBody {
		s.tooLarge++
	}
	return nil
}

// inject gives the fault to the next writes, so many.
func (s *flakyStore) inject(f fault, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.left = f, writes
}

// injected reports whether those writes have come.
func (s *flakyStore) injected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == 0
}

func (s *flakyStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *flakyStore) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// counts of writes that came too early, answers of 413, and writes.
func (s *flakyStore) counts() (early, tooLarge, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early, s.tooLarge, s.requests
}

// answer as InfluxDB 2 does.
func answer(w http.ResponseWriter, status int, retryAfter, words string) {
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"code":"internal","message":%q}`, words)
}

// refuseBatches answers status to more than one row at once: what a server
// does that is wrong about its reasons, and soon better.
func refuseBatches(status int) fault {
	return func(_ *flakyStore, w http.ResponseWriter, _ *http.Request, rows int) bool {
		if rows < 2 {
			return false
		}
		answer(w, status, "", "wrong about the batch")
		return true
	}
}

// fail answers status.
func fail(status int) fault {
	return func(_ *flakyStore, w http.ResponseWriter, _ *http.Request, _ int) bool {
		answer(w, status, "", "not now")
		return true
	}
}

// The pause that wait asks for, and the part of it for which writes may come
// that were under way.
const (
	retryAfter    = 5 * time.Second
	underWay      = 3 * time.Second
	retryAfterFor = "5"
)

// wait answers status, asks for a pause, and notes who comes before it is
// over.
func wait(status int) fault {
	return func(s *flakyStore, w http.ResponseWriter, _ *http.Request, _ int) bool {
		s.mu.Lock()
		s.quietFrom, s.quietTo = time.Now().Add(underWay), time.Now().Add(retryAfter)
		s.mu.Unlock()
		answer(w, status, retryAfterFor, "too many requests")
		return true
	}
}

// hang answers nothing until the hub gives up.
func hang(_ *flakyStore, _ http.ResponseWriter, r *http.Request, _ int) bool {
	<-r.Context().Done()
	return true
}

// reset resets the connection.
func reset(_ *flakyStore, w http.ResponseWriter, _ *http.Request, _ int) bool {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	return true
}

// late stores the rows first, so that the hub does not know that they are.
func late(f fault) fault {
	return func(s *flakyStore, w http.ResponseWriter, r *http.Request, rows int) bool {
		s.behind.ServeHTTP(discardAnswer{make(http.Header)}, r)
		return f(s, w, r, rows)
	}
}

// discardAnswer is a ResponseWriter that nobody reads.
type discardAnswer struct{ header http.Header }

func (d discardAnswer) Header() http.Header         { return d.header }
func (d discardAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (d discardAnswer) WriteHeader(int)             {}
