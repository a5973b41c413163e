package influxtest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStopAndStartKeepPortAndData(t *testing.T) {
	s := Start(t)
	write(t, s, http.StatusNoContent)
	url := s.URL
	s.Stop()
	if s.PID() != 0 {
		t.Fatal("a stopped server has a process id")
	}
	if resp, err := s.http.Get(url + "/health"); err == nil {
		_ = resp.Body.Close()
		t.Fatal("a stopped server answers")
	}
	s.Start()
	wantPoint(t, s)
	s.Kill()
	s.Start()
	if s.URL != url {
		t.Fatalf("url %s became %s", url, s.URL)
	}
	wantPoint(t, s)
}

func TestAuthAndSettings(t *testing.T) {
	s := Start(t, WithAuth("hub", "secret"), WithSetting("INFLUXDB_HTTP_MAX_BODY_SIZE=16"))
	write(t, s, http.StatusRequestEntityTooLarge)
	s.Token = "hub:wrong"
	write(t, s, http.StatusUnauthorized)
}

func write(t *testing.T, s *Server, want int) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.URL+"/api/v2/write?bucket="+s.Bucket, strings.NewReader("m,device=d v=1 1700000000000000000"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Token "+s.Token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		t.Fatalf("write: %s, want %d", resp.Status, want)
	}
}

func wantPoint(t *testing.T, s *Server) {
	t.Helper()
	if got := s.Query("SELECT count(v) FROM m"); !bytes.Contains(got, []byte(",1]")) {
		t.Fatalf("the point is gone: %s", got)
	}
}
