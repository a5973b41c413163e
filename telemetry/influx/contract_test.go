package influx

import (
	"fmt"
	"testing"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
	"github.com/tetherline/tetherline/telemetry/sinktest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, server *influxtest.Server, change ...func(*Config)) *Store {
	t.Helper()
	c := Config{URL: server.URL, Token: server.Token, Org: server.Org, Bucket: server.Bucket}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	server := influxtest.Start(t)
	n := 0
	sinktest.Run(t, func(t *testing.T) (telemetry.Sink, telemetry.Reader) {
		// A database for each test: a field has one type in all of a
		// measurement.
		n++
		bucket := fmt.Sprintf("contract_%d", n)
		server.Query("CREATE DATABASE " + bucket)
		s := open(t, server, func(c *Config) { c.Bucket = bucket + "/autogen" })
		return s, s
	})
}
