package live_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tetherline/tetherline/hub/live"
)

// In a storm every device goes and comes back: what it is in the end is saved
// without a stop of the hub.
func TestCrowdIsSavedInTheEnd(t *testing.T) {
	const devices = 600
	s := startSite(t)
	table, _ := s.table("n1")
	for range 3 {
		for i := range devices {
			enter(t, table, fmt.Sprint("d", i), &gear{}) // supersedes
		}
	}
	last := fmt.Sprintf(`"epoch":%d,`, table.Presence("d599").Epoch)
	eventually(t, "the last word on the last device is saved", func() bool { return strings.Contains(s.stored("d599"), last) })
	bucket, err := s.node.JetStream().Stream(testContext(t), "KV_presence")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are saved", func() bool {
		info, err := bucket.Info(testContext(t))
		return err == nil && info.State.Msgs == devices
	})
}

// A hub that is alone tells nobody what nobody would hear.
func TestSoleNodeIsSilent(t *testing.T) {
	s := startSite(t, "a")
	told := make(chan *nats.Msg, 16)
	for _, subject := range []string{"tl.presence", "tl.session.*"} {
		sub, err := s.node.Conn().ChanSubscribe(subject, told)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	table, err := live.New(testContext(t), live.Config{
		Conn: s.node.Conn(), JetStream: s.node.JetStream(), Registry: s.reg, Node: "n1", Sole: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &gear{}
	enter(t, table, "a", p)
	table.Leave("a", p, "connection lost")
	if err := s.node.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-told:
		t.Errorf("said on %s: %s", m.Subject, m.Data)
	default:
	}
	if p := table.Presence("a"); p.Reason != "connection lost" {
		t.Errorf("presence is %+v", p)
	}
}
