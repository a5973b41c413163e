// Package influx stores readings in InfluxDB 1.8 or 2.x. It implements
// telemetry.Sink and telemetry.Reader.
//
// # Writing
//
// A batch is encoded straight to line protocol and posted by one call of
// influxdb-client-go's blocking write API. WriteRecord with one argument hands
// it on as it is, without splitting, joining or copying; so the bytes are lent
// to it as a string, and the buffer is used again once the transport has let
// go of it. The client's own reading of error answers knows one form of JSON
// and would lose the server's words in others (1.8 says {"error":…}, 2.x adds
// members that its struct cannot hold): the HTTP client below it reads them
// first, into a telemetry.SinkError that travels through the client.
//
// # Reading
//
// Questions are asked in InfluxQL at /query, not in Flux. The engine behind
// InfluxQL is the same in 1.8 and 2.x, reads rows lazily in the order of time
// and stops at the limit, keeps strings as they are (Flux answers in CSV, which
// drops carriage returns and cannot tell "" from nothing), and is on by
// default; Flux in 1.8 is off, four years older than in 2.x, and reads all of
// a range to give its first page. A 2.x server maps a bucket to the database
// of the same name, or db/rp, by itself.
//
// Windows are cut by telemetry.Windows: the server is asked for runs of
// windows of equal length and needs no time zones of its own.
//
// A field that has been an integer in one shard of the server and a float in
// another is read as a float.
package influx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"
	"github.com/tetherline/tetherline/telemetry"
)

// Defaults and bounds of a Config.
const (
	DefaultTimeout      = 10 * time.Second
	DefaultQueryTimeout = time.Minute
	dialTimeout         = 5 * time.Second
	idleTimeout         = 90 * time.Second
	maxIdle             = 16 // connections
)

// Config of a Store.
type Config struct {
	URL   string // "http://host:8086", with a path where a proxy wants one
	Token string // for 1.8 "user:password"; "": none
	Org   string // 2.x only
	// Bucket to write to; in 1.8 "database/retention-policy", or "database"
	// for its default policy.
	Bucket string
	// Database and RetentionPolicy are what InfluxQL calls the bucket; "":
	// as the bucket's name says. Set them where a 2.x server has a DBRP
	// mapping of other names.
	Database, RetentionPolicy string

	Timeout      time.Duration // of one write; 0: DefaultTimeout
	QueryTimeout time.Duration // of one question, all pages of the server's answer; 0: DefaultQueryTimeout
	Gzip         bool          // compress writes: a tenth of the bytes for several times the CPU
	TLS          *tls.Config   // nil: the system's roots
	HTTPClient   *http.Client  // instead of one with TLS; its Timeout should be 0
	Logger       *slog.Logger  // nil: slog.Default
}

// Store keeps readings in an InfluxDB bucket. All methods may run at once.
type Store struct {
	config   Config
	database string
	policy   string
	log      *slog.Logger
	http     *doer
	client   influxdb2.Client
	write    api.WriteAPIBlocking
	buffers  buffers
}

var (
	_ telemetry.Sink   = (*Store)(nil)
	_ telemetry.Reader = (*Store)(nil)
)

// New checks c. It does not connect: see Check.
func New(c Config) (*Store, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("influx: URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("influx: URL is not http://host:port or https://host:port")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("influx: URL has more than host, port and path; give the token apart")
	case c.Bucket == "":
		return nil, errors.New("influx: Bucket is empty")
	case c.Timeout < 0 || c.QueryTimeout < 0:
		return nil, errors.New("influx: a timeout is negative")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.QueryTimeout == 0 {
		c.QueryTimeout = DefaultQueryTimeout
	}
	log := c.Logger
	if log == nil {
		log = slog.Default()
	}
	s := &Store{config: c, log: log.With("store", "influxdb"), http: newDoer(&c)}
	s.database, s.policy, _ = strings.Cut(c.Bucket, "/")
	if c.Database != "" {
		s.database, s.policy = c.Database, c.RetentionPolicy
	}
	options := influxdb2.DefaultOptions().SetApplicationName("tetherline").SetPrecision(time.Nanosecond)
	options.HTTPOptions().SetHTTPDoer(s.http)
	s.client = influxdb2.NewClientWithOptions(c.URL, c.Token, options)
	s.write = s.client.WriteAPIBlocking(c.Org, c.Bucket)
	return s, nil
}

func newDoer(c *Config) *doer {
	client := c.HTTPClient
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			TLSClientConfig:       c.TLS,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   maxIdle,
			IdleConnTimeout:       idleTimeout,
			ExpectContinueTimeout: time.Second,
		}}
	}
	own := *client
	// A redirect of a POST loses its body or its credentials: the operator
	// gives the final address.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &doer{client: &own, gzip: c.Gzip}
}

// Close closes idle connections. Calls under way end by themselves.
func (s *Store) Close() error {
	s.client.Close()
	if s.config.HTTPClient == nil {
		s.http.client.CloseIdleConnections()
	}
	return nil
}

// Name is "influxdb".
func (s *Store) Name() string { return "influxdb" }

// Check asks for the server's health, and whether the token may write to the
// bucket, by a write of no lines.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	health, err := s.client.Health(ctx)
	if err != nil {
		return fmt.Errorf("ask InfluxDB for its health: %w", err)
	}
	if health.Status != "pass" {
		message := ""
		if health.Message != nil {
			message = ": " + *health.Message
		}
		return fmt.Errorf("InfluxDB says %s%s", health.Status, message)
	}
	err = s.write.WriteRecord(ctx, "\n")
	// 2.x answers 400, but only after it has let the token in.
	if err == nil || telemetry.ClassOf(err) == telemetry.BadRows {
		return nil
	}
	return err
}
