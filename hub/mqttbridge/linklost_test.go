package mqttbridge

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqtttest"
)

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Why a connection was lost stands in the log, and among the problems when it
// is there again.
func TestWhyTheConnectionWasLost(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{})
	r := newRig(t)
	var log journal
	b, _ := r.bridgeWith(broker.URL, hostileConfig, func(d *Deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	up(t, b)
	// Another client with the session's id: Mosquitto closes the first.
	other := broker.Dial(t, "tetherline-test-barn", func(o *mqtt.ClientOptions) { o.SetCleanSession(false) })
	p := wantProblem(t, b, "connection lost")
	other.Disconnect(0)
	up(t, b)
	if !strings.Contains(p.Detail, "closed by the broker") || strings.Contains(p.Detail, "connection lost") {
		t.Errorf("%+v", p)
	}
	if text := log.String(); !strings.Contains(text, "connection to the MQTT broker lost") || !strings.Contains(text, p.Detail) {
		t.Errorf("log:\n%s", text)
	}
}

// Where the hub itself ends the connection, because there was no room, it says
// so.
func TestWhyTheHubClosedTheConnection(t *testing.T) {
	broker := mqtttest.StartMosquitto(t, mqtttest.MosquittoOptions{MaxInflight: 1000})
	r := newRig(t)
	var log journal
	// A busy machine may take longer than 2 s to answer a ping, and the connection would be lost.
	b, _ := r.bridgeWith(broker.URL, strings.Replace(hostileConfig, "    keep-alive: 2s", "    max-pending-bytes: 524288\n    keep-alive: 10m", 1),
		func(d *Deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	up(t, b)
	gear := broker.Dial(t, "gear")
	mqtttest.Publish(t, gear, "r/other/n", 1, false, "0")
	r.wantStored("other", "raw n=0")
	r.full.Store(true)
	for i := range 20 {
		mqtttest.Publish(t, gear, "r/other/"+strings.Repeat("n", 60), 1, false, fmt.Sprintf("%d%s", i, strings.Repeat(" ", 60<<10)))
	}
	p := wantProblem(t, b, "no room")
	for _, want := range []string{"524288", "max-pending-bytes", "QoS 1"} {
		if !strings.Contains(p.Detail, want) {
			t.Errorf("%q is missing in %q", want, p.Detail)
		}
	}
	r.full.Store(false)
	// Mosquitto may take the next connection in before the last acknowledgements
	// of the one before: what they are for comes again, and has its time again.
	eventually(t, "the session is begun again and all is stored", func() bool {
		times := make(map[int64]bool)
		for _, row := range r.all() {
			times[row.Time] = true
		}
		return len(times) == 21
	})
	if n := len(r.stored("other")); n > 21 {
		t.Logf("%d rows came again", n-21)
	}
	if p := b.problemOf("connection lost"); p.Count > 0 {
		t.Errorf("the connection was not lost: %+v", p)
	}
	if text := log.String(); !strings.Contains(text, "connection to the MQTT broker closed by the hub") || !strings.Contains(text, "no room") {
		t.Errorf("log:\n%s", text)
	}
}

// What is said of a fault is what is known of it.
func TestWordsNameOnlyWhatIsKnown(t *testing.T) {
	if text := plainError(io.EOF).Error(); !strings.Contains(text, "gives no reason") || strings.Contains(text, "may have connected") {
		t.Error(text)
	}
	for url, rules := range map[string]bool{EmbeddedURL: false, "tcp://127.0.0.1:1883": true} {
		b := &broker{cfg: &BrokerConfig{URL: url}, log: quiet(), fenceTopic: fenceRoot + "test"}
		b.blind(&link{})
		list := b.problems.list()
		if len(list) != 1 || strings.Contains(list[0].Detail, "access rules") != rules || !strings.Contains(list[0].Detail, "busy") {
			t.Errorf("%s: %+v", url, list)
		}
	}
}
