package firmwaresim

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// refusedBy sends writes to a store that refuses them as pick has it, and
// returns what they were answered with, and how many InfluxDB has got of how
// many first ones.
func refusedBy(t *testing.T, fault string, pick uint64, writes int) (status []int, after []string, stored []bool, health int) {
	t.Helper()
	var got atomic.Int32
	influx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v2/write" {
			if body, _ := io.ReadAll(r.Body); string(body) == "rows" && r.Header.Get("Authorization") == "Token t" && r.URL.RawQuery == "bucket=b" {
				got.Add(1)
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer influx.Close()
	s, err := newRefusingStore(influx.Listener.Addr().String(), fault, pick)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range writes {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/api/v2/write?bucket=b", strings.NewReader("rows"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Token t")
		before := got.Load()
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		status, after = append(status, answer.StatusCode), append(after, answer.Header.Get("Retry-After"))
		stored = append(stored, got.Load() > before)
	}
	answer, err := client.Get("http://" + s.addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if s.refused.Load() != int64(writes) || s.kept.Load() != int64(got.Load()) {
		t.Errorf("%s: it counts %d refused and %d kept; want %d and %d", fault, s.refused.Load(), s.kept.Load(), writes, got.Load())
	}
	return status, after, stored, answer.StatusCode
}

// A store that refuses answers no write with success, stores some of them all
// the same, and the first one never; a seed has it do the same again.
func TestStoreRefusesWrites(t *testing.T) {
	t.Parallel()
	const writes = 40
	seen := map[int]bool{}
	for pick := range uint64(8) {
		status, _, stored, health := refusedBy(t, "store-5xx", pick, writes)
		_, _, again, _ := refusedBy(t, "store-5xx", pick, writes)
		kept := 0
		for i := range writes {
			seen[status[i]] = true
			kept += btoi(stored[i])
			if status[i] < 500 || stored[i] != again[i] {
				t.Errorf("seed %d: write %d is answered with %d, stored %v, and %v the next time", pick, i, status[i], stored[i], again[i])
			}
		}
		if stored[0] || kept == 0 || kept == writes {
			t.Errorf("seed %d: %d of %d are stored, the first one: %v", pick, kept, writes, stored[0])
		}
		// A server that is well and says 500 has something against the rows.
		if health == http.StatusOK && status[0] != http.StatusServiceUnavailable {
			t.Errorf("seed %d: writes are answered with %d, and the server calls itself well", pick, status[0])
		}
	}
	if len(seen) != 4 {
		t.Errorf("the answers are %v; want four", seen)
	}
	status, after, _, health := refusedBy(t, "store-429", 1, 3)
	if status[2] != http.StatusTooManyRequests || after[2] != "1" || health != http.StatusOK {
		t.Errorf("a busy store answers %v, Retry-After %q, health %d", status, after, health)
	}
}

// A mute store says nothing at all, for as long as it is mute.
func TestMuteStoreNeverAnswers(t *testing.T) {
	t.Parallel()
	influx := httptest.NewServer(http.NotFoundHandler())
	defer influx.Close()
	s, err := newRefusingStore(influx.Listener.Addr().String(), "store-mute", 1)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := c.Post("http://"+s.addr+"/api/v2/write", "text/plain", strings.NewReader("rows"))
		if err == nil {
			_ = answer.Body.Close()
		}
		said <- err
	})
	for deadline := time.Now().Add(time.Minute); s.refused.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-said:
		t.Errorf("it answers: %v", err)
	default:
	}
	s.close()
	if err := <-said; err == nil {
		t.Error("it answers in the end")
	}
}

// A link that is silent in one direction lets the other through; what it held
// back is lost with a cut, and else arrives. It can lead elsewhere.
func TestLinkIsSilentInOneDirection(t *testing.T) {
	t.Parallel()
	first, other := startEcho(t, "1"), startEcho(t, "2")
	l, err := newFaultyLink(first)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	c := dialEcho(t, l)
	for _, way := range []direction{up, down} {
		l.silence(way)
		wantEcho(t, c, "held", "") // neither there nor back
		l.sound(way)
		wantEcho(t, c, "", "1held")
	}
	l.silence(up)
	wantEcho(t, c, "lost", "")
	l.cut()
	l.sound(up)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes come through a connection that was cut", n)
	}
	c = dialEcho(t, l)
	wantEcho(t, c, "new", "1new")
	l.lead(other)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives that its link leads elsewhere")
	}
	wantEcho(t, dialEcho(t, l), "there", "2there")
}

// startEcho answers each piece with itself behind a mark.
func startEcho(t *testing.T, mark string) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 100)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					_, _ = c.Write(append([]byte(mark), buf[:n]...))
				}
			})
		}
	})
	return listener.Addr().String()
}

func dialEcho(t *testing.T, l *faultyLink) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// wantEcho says something, and wants an answer; "": none for a while.
func wantEcho(t *testing.T, c net.Conn, say, want string) {
	t.Helper()
	if _, err := io.WriteString(c, say); err != nil {
		t.Fatal(err)
	}
	if want == "" {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes come through a silent link", n)
		}
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%q comes back, %v; want %q", got, err, want)
	}
}
