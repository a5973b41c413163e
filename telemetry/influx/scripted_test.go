package influx

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// What a server or a proxy before it might answer, and what it means.

func scripted(t *testing.T, answer http.HandlerFunc, change ...func(*Config)) *Store {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	c := Config{URL: server.URL, Token: "secret-token", Org: "o", Bucket: "b", Timeout: 10 * time.Second}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func one(t testing.TB) telemetry.Batch {
	return batch(t, reading("d", at(0), "a", telemetry.DoubleValue(1)))
}

func TestAnswers(t *testing.T) {
	const (
		jsonType = "application/json; charset=utf-8"
		text     = "text/plain"
	)
	long := strings.Repeat("é", 5000)
	for name, c := range map[string]struct {
		status     int
		mediaType  string
		body       string
		retryAfter string

		class telemetry.Class
		wait  time.Duration
		words string
	}{
		"2.x partial write":     {422, jsonType, `{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict dropped=1","op":"http","err":"x"}`, "", telemetry.BadRows, 0, "failure writing points to database: partial write: field type conflict dropped=1"},
		"2.x parse":             {400, jsonType, `{"code":"invalid","message":"unable to parse 'x': missing fields","line":1,"StatusCode":7}`, "", telemetry.BadRows, 0, "unable to parse 'x': missing fields"},
		"1.8 long words":        {400, jsonType, `{"error":"partial write: ` + long + ` dropped=1"}`, "", telemetry.BadRows, 0, long + " dropped=1"},
		"text":                  {400, text, "no way\n", "", telemetry.BadRows, 0, "400 Bad Request: no way"},
		"broken JSON":           {400, jsonType, `{"error":`, "", telemetry.BadRows, 0, `{"error":`},
		"empty":                 {400, "", "", "", telemetry.BadRows, 0, "InfluxDB: 400 Bad Request"},
		"not UTF-8":             {400, text, "\xff", "", telemetry.BadRows, 0, "\ufffd"},
		"too large":             {413, text, "", "", telemetry.TooLarge, 0, "413"},
		"too many":              {429, jsonType, `{"code":"too many requests"}`, "7", telemetry.Retry, 7 * time.Second, "too many requests"},
		"too many, no wish":     {429, text, "", "", telemetry.Retry, 0, "429"},
		"unreasonable wish":     {429, text, "", "99999999", telemetry.Retry, maxRetryAfter, "429"},
		"wish nobody can read":  {503, text, "", "soon", telemetry.Retry, 0, "503"},
		"internal":              {500, jsonType, `{"error":"timeout"}`, "", telemetry.Retry, 0, "timeout"},
		"no policy":             {500, jsonType, `{"error":"retention policy not found: x"}`, "", telemetry.Misconfigured, 0, "create the database"},
		"bad gateway":           {502, "text/html", "<html>bad</html>", "", telemetry.Retry, 0, "<html>bad</html>"},
		"unavailable":           {503, text, "", "3", telemetry.Retry, 3 * time.Second, "503"},
		"gateway timeout":       {504, text, "", "", telemetry.Retry, 0, "504"},
		"request timeout":       {408, text, "", "", telemetry.Retry, 0, "408"},
		"unauthorized":          {401, jsonType, `{"code":"unauthorized","message":"unauthorized access"}`, "", telemetry.Misconfigured, 0, "the token is wrong"},
		"forbidden":             {403, jsonType, `{"code":"forbidden","message":"insufficient permissions"}`, "", telemetry.Misconfigured, 0, "may not write"},
		"no bucket":             {404, jsonType, `{"code":"not found","message":"bucket \"b\" not found"}`, "", telemetry.Misconfigured, 0, "create the database or bucket"},
		"method":                {405, text, "", "", telemetry.Misconfigured, 0, "something between"},
		"redirect":              {307, text, "", "", telemetry.Misconfigured, 0, "final one"},
		"switch to the website": {301, text, "", "", telemetry.Misconfigured, 0, "final one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", c.mediaType)
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				if c.status/100 == 3 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			err := s.Write(t.Context(), one(t))
			wantClass(t, err, c.class, c.words)
			var se *telemetry.SinkError
			if !errors.As(err, &se) || se.Status != c.status || se.RetryAfter != c.wait {
				t.Errorf("%+v, want status %d, wait %v", se, c.status, c.wait)
			}
			if strings.Contains(err.Error(), "secret-token") {
				t.Error("the token is in the error")
			}
		})
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"Wed, 01 Jan 2025 00:00:30 GMT": 30 * time.Second,
		"Wed, 01 Jan 2025 09:00:00 GMT": maxRetryAfter,
		"Tue, 31 Dec 2024 00:00:00 GMT": 0,
		"120":                           2 * time.Minute,
		"-1":                            0,
		"":                              0,
	} {
		if got := retryAfter(h, now); got != want {
			t.Errorf("%q: %v, want %v", h, got, want)
		}
	}
}

func TestRequestOfAWrite(t *testing.T) {
	got := make(chan *http.Request, 1)
	body := make(chan string, 1)
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body <- string(b)
		got <- r
		w.WriteHeader(http.StatusNoContent)
	}, func(c *Config) { c.URL += "/behind/a/proxy" })
	if err := s.Write(t.Context(), one(t)); err != nil {
		t.Fatal(err)
	}
	b, r := <-body, <-got
	q := r.URL.Query()
	if r.URL.Path != "/behind/a/proxy/api/v2/write" || q.Get("precision") != "ns" || q.Get("bucket") != "b" || q.Get("org") != "o" {
		t.Errorf("%s %v", r.URL.Path, q)
	}
	if r.Header.Get("Authorization") != "Token secret-token" || !strings.HasSuffix(r.UserAgent(), "tetherline") || r.ContentLength != int64(len(b)) {
		t.Errorf("%v, %d bytes", r.Header, r.ContentLength)
	}
	if b != "telemetry,device=d a=1 1715767200000000000\n" {
		t.Errorf("body %q", b)
	}
}

// A server that takes the request and never answers.
func TestHangEndsByTheTimeout(t *testing.T) {
	release := make(chan struct{})
	s := scripted(t, func(_ http.ResponseWriter, r *http.Request) { <-release }, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	defer close(release)
	wantClass(t, s.Write(t.Context(), one(t)), telemetry.Retry, "no answer within 50ms")
}

func TestCancelEndsAWrite(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	s := scripted(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	err := s.Write(ctx, one(t))
	wantClass(t, err, telemetry.Retry)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestResetIsRetried(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset, not a goodbye
			_, _ = conn.Read(make([]byte, 64))
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	s, err := New(Config{URL: "http://" + l.Addr().String(), Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for range 5 {
		wantClass(t, s.Write(t.Context(), one(t)), telemetry.Retry)
	}
}

// A server that answers before it has read the body: the buffer may still be
// on its way out when Write returns. With -race this finds a buffer that is
// used again too early; the bodies show rows of one write in another.
func TestEarlyAnswersDoNotMixBuffers(t *testing.T) {
	var mixed, whole atomic.Int64
	var n atomic.Int64
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			whole.Add(1)
			series, _, _ := strings.Cut(string(b), " ")
			for line := range strings.Lines(string(b)) {
				if !strings.HasPrefix(line, series) {
					mixed.Add(1)
				}
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	var rows [2][]telemetry.Row
	for i := range 3000 {
		rows[0] = append(rows[0], reading("dev-a", at(i), "a", telemetry.StringValue(strings.Repeat("a", 200))))
		rows[1] = append(rows[1], reading("dev-b", at(i), "b", telemetry.StringValue(strings.Repeat("b", 200))))
	}
	batches := [2]telemetry.Batch{batch(t, rows[0]...), batch(t, rows[1]...)}
	for i := range 60 {
		_ = s.Write(t.Context(), batches[i%2])
	}
	if whole.Load() == 0 || mixed.Load() != 0 {
		t.Fatalf("%d bodies, %d lines of another write", whole.Load(), mixed.Load())
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-Fail") == "" && r.ContentLength > 60 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": strings.Repeat("x", 10_000)})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s, err := New(Config{URL: server.URL, Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	two := batch(t, reading("d", at(0), "a", telemetry.DoubleValue(1)), reading("d", at(1), "a", telemetry.DoubleValue(1)))
	for range 20 {
		if err := s.Write(t.Context(), one(t)); err != nil {
			t.Fatal(err)
		}
		wantClass(t, s.Write(t.Context(), two), telemetry.BadRows)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 40 writes one after the other", n)
	}
}

func TestUndecodableEntriesAreBadRows(t *testing.T) {
	s := scripted(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	b := one(t)
	b.Entries[0].Telemetry = b.Entries[0].Telemetry[:5]
	wantClass(t, s.Write(t.Context(), b), telemetry.BadRows)
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"no URL":      {Bucket: "b"},
		"no scheme":   {URL: "localhost:8086", Bucket: "b"},
		"password":    {URL: "http://u:p@localhost:8086", Bucket: "b"},
		"query":       {URL: "http://localhost:8086?db=x", Bucket: "b"},
		"no bucket":   {URL: "http://localhost:8086"},
		"negative":    {URL: "http://localhost:8086", Bucket: "b", Timeout: -1},
		"control":     {URL: "http://localhost:8086\n", Bucket: "b"},
		"other proto": {URL: "ftp://localhost", Bucket: "b"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s passes", name)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}
