package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// OwnHub describes a hub that a load starts as another process, measures, and
// ends. It takes whatever its devices send: its limits are out of the way.
type OwnHub struct {
	// Hubd is the hub's program; "": see FindHubd.
	Hubd string
	// Influxd is the program of an InfluxDB 1.8 to be started beside it; "":
	// it is looked for, and where there is none the hub stores in its embedded
	// store; "none": that in any case. Where there is an InfluxURL nothing is
	// started, and the hub stores there, in InfluxBucket.
	Influxd                            string
	InfluxURL, InfluxOrg, InfluxBucket string
	InfluxToken                        string `json:"-"`
	Dir                                string // for everything, which stays; it must be empty or not exist. "": a temporary folder, which goes
}

// loadHub is a hub that a load has started, with its store.
type loadHub struct {
	dir       string
	temporary bool
	release   func() // of the folder
	where     string // its program was found
	kind      string // of its store
	hub       *provenHub
	store     *provenStore // nil: none of the load's own
	logs      []*boundedLog
}

// loadOwnHub is Load with a hub of its own.
func loadOwnHub(ctx context.Context, cfg LoadConfig) (LoadSummary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	own, err := startLoadHub(ctx, cfg.Own, cancel)
	if err != nil {
		return LoadSummary{}, err
	}
	defer own.close()
	cfg.Hub, cfg.Token, cfg.RootCAs = own.hub.url(), own.hub.token, own.hub.roots
	if canMeasure {
		cfg.HubPID = own.pid()
	}
	s, err := runLoad(ctx, cfg, own)
	if ended := new(endedError); err != nil && errors.As(context.Cause(ctx), &ended) {
		err = ended
	}
	return s, err
}

// startLoadHub returns when hub and store answer. ended hears of a program
// that has ended by itself.
func startLoadHub(ctx context.Context, c *OwnHub, ended func(error)) (h *loadHub, err error) {
	h = &loadHub{kind: "the embedded store"}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	removeLeftLoads()
	if h.dir, err = emptyFolder(c.Dir, "load"); err != nil {
		return h, err
	}
	h.temporary = c.Dir == ""
	if h.release, err = holdFolder(h.dir); err != nil {
		return h, fmt.Errorf("hold %s: %w", h.dir, err)
	}
	hubd, where, err := FindHubd(ctx, c.Hubd, h.dir)
	if err != nil {
		return h, err
	}
	h.where = hubd + " (" + where + ")"
	store, token, err := h.startStore(ctx, c, ended)
	if err != nil {
		return h, err
	}
	log, err := h.log("hub.log")
	if err != nil {
		return h, err
	}
	addr, err := quietAddr()
	if err != nil {
		return h, err
	}
	p := &provenHub{data: filepath.Join(h.dir, "hub"), addr: addr}
	p.program = program{name: "the hub", path: hubd, env: cleanEnvironment(), log: log, onExit: ended, args: append([]string{
		"serve", "--data", p.data, "--listen", addr, "--node-name", "load", "--log-level", "warn",
		"--device-frames", "1e6", "--device-bytes", "1e9", "--address-rate", "100000",
	}, store...)}
	if token != "" {
		p.env = append(p.env, "TETHERLINE_INFLUX_TOKEN="+token)
	}
	h.hub = p
	return h, p.begin(ctx)
}

// startStore returns what tells the hub of its store.
func (h *loadHub) startStore(ctx context.Context, c *OwnHub, ended func(error)) (args []string, token string, err error) {
	if c.InfluxURL != "" {
		h.kind = "InfluxDB at " + c.InfluxURL
		return []string{"--influx-url", c.InfluxURL, "--influx-org", c.InfluxOrg, "--influx-bucket", c.InfluxBucket}, c.InfluxToken, nil
	}
	path, err := findInfluxd(c.Influxd)
	if err != nil || path == "" {
		return nil, "", err
	}
	dir := filepath.Join(h.dir, "influxdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	log, err := h.log("influxdb.log")
	if err != nil {
		return nil, "", err
	}
	addr, err := quietAddr()
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(dir, "influxd.toml")
	if err := os.WriteFile(config, []byte(influxConfig(dir, addr)), 0o600); err != nil {
		return nil, "", err
	}
	h.store = &provenStore{addr: addr, program: program{
		name: "InfluxDB", path: path, args: []string{"run", "-config", config}, env: cleanEnvironment(), log: log, onExit: ended,
	}}
	if err := h.store.begin(ctx); err != nil {
		return nil, "", err
	}
	h.kind = "InfluxDB, " + path
	return []string{"--influx-url", "http://" + addr, "--influx-org", "load", "--influx-bucket", storeDatabase + "/autogen"}, "",
		h.store.ask(ctx, http.MethodPost, "/query?"+url.Values{"q": {"CREATE DATABASE " + storeDatabase}}.Encode())
}

func (h *loadHub) log(name string) (*boundedLog, error) {
	log, err := openBoundedLog(filepath.Join(h.dir, name))
	if err == nil {
		h.logs = append(h.logs, log)
	}
	return log, err
}

func (h *loadHub) pid() int { return h.hub.cmd.Process.Pid }

// restart kills the hub and returns how long it took until it was ready again.
func (h *loadHub) restart(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	h.hub.kill()
	err := h.hub.begin(ctx)
	return time.Since(began), err
}

// close ends hub and store, and removes what nobody wants to keep.
func (h *loadHub) close() {
	if h.hub != nil {
		h.hub.kill()
		if h.hub.transport != nil {
			h.hub.transport.CloseIdleConnections()
		}
	}
	if h.store != nil {
		h.store.kill()
	}
	for _, log := range h.logs {
		log.close()
	}
	if h.temporary {
		_ = os.RemoveAll(h.dir)
	}
	if h.release != nil {
		h.release()
	}
}

// temporaryFolder is what the names of such folders begin with.
func temporaryFolder(purpose string) string { return "tetherline-" + purpose + "-" }

// emptyFolder is a folder without anything in it: that one, made where it does
// not exist, or with "" a temporary one.
func emptyFolder(wish, purpose string) (string, error) {
	if wish == "" {
		return os.MkdirTemp("", temporaryFolder(purpose))
	}
	dir, err := filepath.Abs(wish)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return "", errors.Join(fmt.Errorf("%s is not empty", dir), err)
	}
	return dir, nil
}
