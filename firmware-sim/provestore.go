package firmwaresim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// storeDatabase is where the hub stores. InfluxDB knows what kind a field is
// for each shard group alone, and by default makes one a week, from Monday 00:00
// UTC: a sick device with the first row of a new one would have text stored, and
// the numbers of the others refused. So there is one for all of a proof's time,
// from 2013 to 2109.
const (
	storeDatabase = "proof"
	createStore   = "CREATE DATABASE " + storeDatabase + " WITH SHARD DURATION 5000w"
)

// provenStore is the InfluxDB of a proof, and the link that the hub reaches
// it by.
type provenStore struct {
	program
	addr string
	link *faultyLink
}

// findInfluxd looks for InfluxDB 1.8; "": there is none.
func findInfluxd(wish string) (string, error) {
	switch wish {
	case "none":
		return "", nil
	case "":
	default:
		if _, err := os.Stat(wish); err != nil {
			return "", fmt.Errorf("influxd: %w", err)
		}
		return wish, nil
	}
	if path := os.Getenv("TETHERLINE_INFLUXD"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("influxd"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil
	}
	path := filepath.Join(cache, "tetherline", "bin", "influxd")
	if _, err := os.Stat(path); err != nil {
		return "", nil
	}
	return path, nil
}

// newProvenStore starts InfluxDB with an empty database in dir.
func newProvenStore(ctx context.Context, path, dir string, log *boundedLog, broken func(error)) (*provenStore, error) {
	addr, err := quietAddr()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "influxd.toml")
	if err := os.WriteFile(config, []byte(influxConfig(dir, addr)), 0o600); err != nil {
		return nil, err
	}
	s := &provenStore{addr: addr, program: program{
		name: "InfluxDB", path: path, args: []string{"run", "-config", config}, env: cleanEnvironment(), log: log, onExit: broken,
	}}
	if s.link, err = newFaultyLink(addr); err != nil {
		return nil, err
	}
	if err = s.begin(ctx); err == nil {
		err = s.ask(ctx, http.MethodPost, "/query?"+url.Values{"q": {createStore}}.Encode())
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// influxConfig leaves durability as it ships: every write is fsynced.
func influxConfig(dir, addr string) string {
	return fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = %q
  logging-enabled = false
[data]
  dir = %q
  wal-dir = %q
  index-version = "tsi1"
  query-log-enabled = false
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = %q
  log-enabled = false
`, filepath.Join(dir, "meta"), filepath.Join(dir, "data"), filepath.Join(dir, "wal"), addr)
}

// begin starts the process and returns when it answers.
func (s *provenStore) begin(ctx context.Context) error {
	began := time.Now()
	if err := s.start(); err != nil {
		return err
	}
	for {
		err := s.ask(ctx, http.MethodGet, "/health")
		switch {
		case err == nil:
			return nil
		case s.begun(ctx) != nil:
			return s.begun(ctx)
		case time.Since(began) > programStart:
			return fmt.Errorf("InfluxDB does not answer after %v: %w", programStart, err)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// ask goes past the link. InfluxDB says that it takes a statement before it has
// done it, and gives one up whose caller does not wait for the end of the answer.
func (s *provenStore) ask(ctx context.Context, method, path string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	what := strings.TrimPrefix(path, "/")
	if answer.StatusCode != http.StatusOK {
		return errors.New(what + ": " + answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if bytes.Contains(text, []byte(`"error"`)) {
		return fmt.Errorf("%s: %s", what, bytes.TrimSpace(text))
	}
	return nil
}

// count is how many rows the store holds, by its own word and past the hub.
func (s *provenStore) count(ctx context.Context) (rows uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	query := url.Values{"db": {storeDatabase}, "q": {fmt.Sprintf("SELECT count(%q) FROM /.*/", fieldNumber)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/query?"+query.Encode(), nil)
	if err != nil {
		return 0, err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	var counted struct {
		Error   string
		Results []struct {
			Error  string
			Series []struct{ Values [][]json.RawMessage }
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&counted); err != nil {
		return 0, fmt.Errorf("count the rows of InfluxDB: %s: %w", answer.Status, err)
	}
	for _, result := range counted.Results {
		counted.Error = cmp.Or(counted.Error, result.Error)
		for _, series := range result.Series {
			n, err := strconv.ParseUint(string(series.Values[0][1]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("count the rows of InfluxDB: %w", err)
			}
			rows += n
		}
	}
	if counted.Error != "" {
		return 0, fmt.Errorf("count the rows of InfluxDB: %s", counted.Error)
	}
	return rows, nil
}

// countTimeout is long: a soak has hundreds of millions of rows.
const countTimeout = 10 * time.Minute

func (s *provenStore) close() {
	s.kill()
	s.link.close()
}
