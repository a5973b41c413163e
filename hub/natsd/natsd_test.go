package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/natsd"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One ticker a process, started by the server's package.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.init.0.func1"),
	)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg natsd.Config) *natsd.Node {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	node, err := natsd.Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := node.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return node
}

func makeStream(t *testing.T, js jetstream.JetStream, replicas int) jetstream.Stream {
	t.Helper()
	stream, err := js.CreateOrUpdateStream(testContext(t), jetstream.StreamConfig{
		Name: "TEST", Subjects: []string{"test.>"}, MaxBytes: 64 << 20, Replicas: replicas,
	})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestMessagesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	first, err := natsd.Start(ctx, natsd.Config{Dir: dir, Name: "one", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if first.Name() != "one" || first.Replicas() != 1 {
		t.Errorf("name %q, replicas %d; want one, 1", first.Name(), first.Replicas())
	}
	if err := first.Health(ctx); err != nil {
		t.Errorf("health: %v", err)
	}
	makeStream(t, first.JetStream(), 1)
	for i := range 10 {
		if _, err := first.JetStream().Publish(ctx, "test.a", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(ctx); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := first.Health(ctx); err == nil {
		t.Error("a stopped node reports itself healthy")
	}

	second := start(t, natsd.Config{Dir: dir, Name: "one"})
	info, err := makeStream(t, second.JetStream(), 1).Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 10 {
		t.Errorf("%d messages after the restart; want 10", info.State.Msgs)
	}
}

func TestExternalServer(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 28, JetStreamMaxMemory: 1 << 20,
		Username: "hub", Password: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("server is not ready")
	}
	node := start(t, natsd.Config{URL: srv.ClientURL(), User: "hub", Password: "secret"})
	if node.Replicas() != 1 {
		t.Errorf("replicas %d with one server; want 1", node.Replicas())
	}
	if err := node.Health(testContext(t)); err != nil {
		t.Errorf("health: %v", err)
	}
	makeStream(t, node.JetStream(), node.Replicas())

	_, err = natsd.Start(testContext(t), natsd.Config{
		URL: srv.ClientURL(), User: "hub", Password: "wrong", StartTimeout: 100 * time.Millisecond, Logger: quiet(),
	})
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("with a wrong password: %v; want %v", err, nats.ErrAuthorization)
	}
}

// A hub that starts before the cluster has a leader waits for it: a question
// that nobody leads is not answered later.
func TestStartWaitsForALeader(t *testing.T) {
	t.Parallel()
	member := func(name string, route *url.URL) *server.Server {
		srv, err := server.NewServer(&server.Options{
			ServerName: name, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Routes: []*url.URL{route},
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: server.RANDOM_PORT},
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
		return srv
	}
	first := member("a", &url.URL{Scheme: "nats", Host: "127.0.0.1:1"})
	if !first.ReadyForConnections(time.Minute) {
		t.Fatal("server is not ready")
	}
	told := make(chan struct{})
	log := slog.New(heard{slog.NewTextHandler(io.Discard, nil), "jetstream does not answer yet; asking again", new(sync.Once), told})
	started := make(chan error, 1)
	go func() {
		node, err := natsd.Start(testContext(t), natsd.Config{URL: first.ClientURL(), StartTimeout: 2 * time.Minute, Logger: log})
		if err == nil {
			err = node.Stop(testContext(t))
		}
		started <- err
	}()
	select {
	case <-told:
	case err := <-started:
		t.Fatalf("started without a leader: %v", err)
	}
	member("b", &url.URL{Scheme: "nats", Host: first.ClusterAddr().String()})
	if err := <-started; err != nil {
		t.Error(err)
	}
}

// heard closes told when message is logged first.
type heard struct {
	slog.Handler
	message string
	once    *sync.Once
	told    chan struct{}
}

func (h heard) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.once.Do(func() { close(h.told) })
	}
	return nil
}

func TestStartRefusesBadConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  natsd.Config
		want string
	}{
		"nothing":  {natsd.Config{}, "neither a store folder"},
		"store":    {natsd.Config{Dir: t.TempDir(), MaxStore: -1}, "max store"},
		"replicas": {natsd.Config{URL: "nats://127.0.0.1", Replicas: 2}, "2 replicas"},
		"name":     {natsd.Config{Dir: t.TempDir(), Name: "a.b"}, `node name "a.b"`},
		"file":     {natsd.Config{Dir: file}, "store folder"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := natsd.Start(testContext(t), tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Start: %v; want an error with %q", err, tc.want)
			}
		})
	}
}

// Who waits for the answer to a message does not wait for ever where the node
// is stopped before it comes.
func TestStopEndsTheWaitForAnAnswer(t *testing.T) {
	node, err := natsd.Start(testContext(t), natsd.Config{Dir: t.TempDir(), Name: "one", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Conn().Subscribe("silence", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	sent, err := node.JetStream().PublishAsync("silence", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case ack := <-sent.Ok():
		t.Errorf("answered by %v", ack)
	case err := <-sent.Err():
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("%v; want %v", err, nats.ErrConnectionClosed)
		}
	case <-time.After(time.Minute):
		t.Error("no end")
	}
}
