package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/tetherline/tetherline/hub/hubtest"
)

// link is a way to the hub on which things go wrong.
type link struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// newLink opens a good way to addr until the test ends.
func newLink(t testing.TB, addr string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{t: t, proxy: toxiproxy.NewProxy(server, "link", hubtest.FreeAddr(t), addr)}
	if err := l.proxy.Start(); err != nil {
		t.Fatalf("open a link: %v", err)
	}
	t.Cleanup(l.proxy.Stop)
	return l
}

// addr is where devices dial.
func (l *link) addr() string { return l.proxy.Listen }

// slow delays both directions.
func (l *link) slow(q linkQuality) {
	for _, stream := range []string{"upstream", "downstream"} {
		l.add("slow-"+stream, "latency", stream, fmt.Sprintf(`{"latency":%d,"jitter":%d}`, q.latency.Milliseconds(), q.jitter.Milliseconds()))
	}
}

// cut breaks the connections of the moment.
func (l *link) cut() {
	l.down()
	l.up()
}

func (l *link) down() { l.proxy.Stop() }

func (l *link) up() {
	if err := l.proxy.Start(); err != nil {
		l.t.Errorf("open a link again: %v", err)
	}
}

// swallow makes what goes in one direction vanish. Connections stay, until
// restore breaks them.
func (l *link) swallow(stream string) { l.add("hole-"+stream, "timeout", stream, `{"timeout":0}`) }

func (l *link) restore(stream string) {
	if err := l.proxy.Toxics.RemoveToxic(context.Background(), "hole-"+stream); err != nil {
		l.t.Errorf("restore a link: %v", err)
	}
}

func (l *link) add(name, kind, stream, attributes string) {
	text := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"toxicity":1,"attributes":%s}`, name, kind, stream, attributes)
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		l.t.Errorf("spoil a link: %v", err)
	}
}

// suffer has a fault from its beginning to its end, or to that of ctx.
func (l *link) suffer(ctx context.Context, f linkFault) {
	hold := func() {
		timer := time.NewTimer(f.lasts)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	switch f.kind {
	case cutLink:
		l.cut()
	case downLink:
		l.down()
		hold()
		l.up()
	case blackHole:
		l.swallow("upstream")
		l.swallow("downstream")
		hold()
		l.restore("upstream")
		l.restore("downstream")
	case muteHub:
		l.swallow("downstream")
		hold()
		l.restore("downstream")
	}
}
