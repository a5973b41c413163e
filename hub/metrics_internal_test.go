package hub

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/natsd"
)

// The pending commands are not told as 0 before they have been read: an alarm
// that counts them would believe it.
func TestPendingCommandsAreNotKnownAtOnce(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	node, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Name: "test", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Stop(context.Background()) }()
	store, err := jsstore.New(t.Context(), jsstore.Config{Conn: node.Conn(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	d, err := commands.New(commands.Config{Node: "test", Store: store, Devices: anyDevice{}, Sender: (*live.Table)(nil), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	m := &metrics{hub: &Hub{commands: d}}
	pending := func() (known bool) {
		out := make(chan prometheus.Metric, 100)
		m.collectCommands(collector{out})
		close(out)
		for metric := range out {
			known = known || strings.Contains(metric.Desc().String(), `"tetherline_commands_pending"`)
		}
		return known
	}
	if pending() {
		t.Error("pending commands are told before they have been read")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() { stop(); <-ended }()
	select {
	case <-d.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the pending commands are not read within a minute")
	}
	if !pending() {
		t.Error("pending commands are not told though they have been read")
	}
}

type anyDevice struct{}

func (anyDevice) Registration(string) string                { return "" }
func (anyDevice) Refresh(context.Context, string) error     { return nil }
func (anyDevice) CheckDevice(context.Context, string) error { return nil }

func (anyDevice) SelectDevices(context.Context, string) ([]string, error) { return nil, nil }
