//go:build unix

package natsd_test

import (
	"bytes"
	"context"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/hub/natsd"
)

// limitFileSize makes every write beyond so many bytes of a file fail, as on
// a full disk, until the test lifts it. It holds for the log too that `go test`
// keeps of a package's tests: those of this file come before that is long.
func limitFileSize(t *testing.T, limit uint64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

// After an I/O error the node says so, loses nothing that was acknowledged,
// and works again by itself when the disk does.
func TestRecoversFromADiskError(t *testing.T) {
	ctx := testContext(t)
	node := start(t, natsd.Config{Dir: t.TempDir(), Name: "one"})
	stream := makeStream(t, node.JetStream(), 1)
	payload := make([]byte, 16<<10)

	lift := limitFileSize(t, 512<<10)
	var acked []uint64
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		ack, err := node.JetStream().Publish(attempt, "test.a", payload, jetstream.WithRetryAttempts(0))
		cancel()
		if err != nil {
			break
		}
		acked = append(acked, ack.Sequence)
		if len(acked) > 100 {
			t.Fatal("the limit of the file size has no effect")
		}
	}
	if len(acked) < 10 {
		t.Fatalf("only %d messages before the disk error", len(acked))
	}
	eventually(t, "health shows the fault", func() bool { return node.Health(ctx) != nil })

	lift()
	eventually(t, "health is back", func() bool { return node.Health(ctx) == nil })
	if _, err := node.JetStream().Publish(ctx, "test.a", payload); err != nil {
		t.Fatalf("publish after the recovery: %v", err)
	}
	for _, seq := range acked {
		msg, err := stream.GetMsg(ctx, seq)
		if err != nil || len(msg.Data) != len(payload) {
			t.Fatalf("acknowledged message %d is gone: %v", seq, err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 3 min: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The MQTT broker is back at the same address after the server had to be
// restarted, with the sessions and what was acknowledged to publishers.
func TestMQTTRecoversFromADiskError(t *testing.T) {
	ctx := testContext(t)
	b := startBroker(t, t.TempDir(), users{"all": everything})
	reader := b.Dial(t, "reader", as("all"), mqtttest.Persistent)
	mqtttest.Subscribe(t, reader, "a", 1)
	reader.Disconnect(100)
	writer := b.Dial(t, "writer", as("all"))
	lift := limitFileSize(t, 512<<10)
	acked := 0
	for ; mqtttest.Wait(t, writer.Publish("a", 1, false, bytes.Repeat([]byte{byte(acked)}, 16<<10))) == nil; acked++ {
		if acked > 100 {
			t.Fatal("the limit of the file size has no effect")
		}
	}
	writer.Disconnect(0)
	if acked < 10 {
		t.Fatalf("only %d messages before the disk error", acked)
	}
	eventually(t, "health shows the fault", func() bool { return b.node.Health(ctx) != nil })
	lift()
	eventually(t, "health is back", func() bool { return b.node.Health(ctx) == nil })
	_, messages := resume(t, b, "reader", as("all"))
	for i := range acked {
		if m := mqtttest.Next(t, messages); m.Payload()[0] != byte(i) {
			t.Fatalf("acknowledged message %d is gone: got %d", i, m.Payload()[0])
		}
	}
	if got := newWitness(t, b).since(t); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
