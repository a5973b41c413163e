package api_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// append makes rows durable, as a session does.
func (h *hub) append(id string, n int) {
	h.t.Helper()
	b := rows(h.t, id, n)
	done := make(durable, 1)
	if err := h.buffer.Append(b.Entries[0], 1, done); err != nil {
		h.t.Fatal(err)
	}
	<-done
}

// appendText makes about so many bytes of long texts durable.
func (h *hub) appendText(id string, bytes int) {
	h.t.Helper()
	for n := 0; n < bytes; {
		row := telemetry.Row{Device: id, Measurement: "telemetry", Time: time.Now().UnixNano()}
		for k := range 12 {
			var text strings.Builder // that hardly compresses
			for text.Len() < telemetry.MaxStringBytes-32 {
				text.WriteString(rand.Text())
			}
			row.Fields = append(row.Fields, telemetry.Field{Name: fmt.Sprint("f", k), Value: telemetry.StringValue(text.String())})
		}
		msg := must(wire.Encode(1, []telemetry.Row{row}))(h.t)
		done := make(durable, 1)
		if err := h.buffer.Append(telemetry.Entry{Device: id, Received: row.Time, Rows: 1, Telemetry: msg}, 1, done); err != nil {
			h.t.Fatal(err)
		}
		<-done
		n += len(msg)
	}
}

type durable chan uint64

func (d durable) Durable(seq uint64) { d <- seq }

var _ telemetry.Acker = durable(nil)

func TestWatchPresence(t *testing.T) {
	h := newHub(t)
	for _, id := range []string{"a-0", "a-1"} {
		h.device(id, "a")
	}
	h.device("b-0", "b")
	h.connectDevice("a-1")
	c := h.as(h.token("ann", registry.RoleViewer, "site=a"))
	stream := must(c.devices.WatchPresence(testContext(t), req(&operatorv1.WatchPresenceRequest{})))(t)
	defer stream.Close()
	next := func() *operatorv1.WatchPresenceResponse {
		t.Helper()
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		return stream.Msg()
	}
	if m := next(); m.GetDeviceId() != "a-0" || m.GetPresence().GetOnline() {
		t.Errorf("first: %v", m)
	}
	if m := next(); m.GetDeviceId() != "a-1" || !m.GetPresence().GetOnline() {
		t.Errorf("second: %v", m)
	}
	if m := next(); !m.GetSynced() || m.GetDeviceId() != "" {
		t.Errorf("third: %v", m)
	}
	h.connectDevice("b-0") // not for this watcher
	h.connectDevice("a-0")
	if m := next(); m.GetDeviceId() != "a-0" || !m.GetPresence().GetOnline() {
		t.Errorf("change: %v", m)
	}
	h.device("a-2", "a")
	if m := next(); m.GetDeviceId() != "a-2" || m.GetPresence().GetOnline() {
		t.Errorf("a new device: %v", m)
	}
}

func TestWatchRows(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	h.device("b-0", "b")
	bound := h.as(h.token("ann", registry.RoleViewer, "site=a"))
	everything := must(h.as(h.admin).telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{})))(t)
	defer everything.Close()
	mine := must(bound.telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{})))(t)
	defer mine.Close()
	none := must(bound.telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{Measurement: "other"})))(t)
	defer none.Close()
	h.awaitTail(everything)
	h.append("b-0", 700)
	h.append("a-0", 3)
	counted := map[string]int{}
	for counted["b-0"] < 700 || counted["a-0"] < 3 {
		if !everything.Receive() {
			t.Fatal(everything.Err())
		}
		for _, row := range everything.Msg().GetRows() {
			counted[row.GetDeviceId()]++
		}
	}
	for want := 0; want < 3; {
		if !mine.Receive() {
			t.Fatal(mine.Err())
		}
		if missed := mine.Msg().GetMissedRows(); missed != 0 {
			t.Errorf("%d rows missed", missed)
		}
		for _, row := range mine.Msg().GetRows() {
			if row.GetDeviceId() != "a-0" || row.GetMeasurement() != "telemetry" || row.GetValues()["temp"].GetDoubleValue() != float64(want) {
				t.Errorf("row %v, want number %d of a-0", row, want)
			}
			want++
		}
	}
}

// awaitTail appends rows of a device that is watched by the admin alone until
// some arrive: the tail begins in the background.
func (h *hub) awaitTail(stream *connect.ServerStreamForClient[operatorv1.WatchRowsResponse]) {
	h.t.Helper()
	h.device("probe", "none")
	arrived := make(chan bool, 1)
	go func() { arrived <- stream.Receive() }()
	for {
		h.append("probe", 1)
		select {
		case ok := <-arrived:
			if !ok {
				h.t.Fatal(stream.Err())
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A revoked token ends its streams within a second.
func TestRevocationEndsStreams(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	token := h.token("ann", registry.RoleViewer, "")
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}} {
		t.Run(name, func(t *testing.T) {
			c := h.as(token, options...)
			presence := must(c.devices.WatchPresence(testContext(t), req(&operatorv1.WatchPresenceRequest{})))(t)
			defer presence.Close()
			for presence.Receive() && !presence.Msg().GetSynced() {
			}
			rows := must(c.telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{})))(t)
			defer rows.Close()
			bystander := must(h.as(h.admin).devices.WatchPresence(testContext(t), req(&operatorv1.WatchPresenceRequest{})))(t)
			defer bystander.Close()
			for bystander.Receive() && !bystander.Msg().GetSynced() {
			}
			revoked := time.Now()
			if err := h.registry.DeleteOperator(testContext(t), "ann"); err != nil {
				t.Fatal(err)
			}
			if presence.Receive() || rows.Receive() {
				t.Error("a message after the revocation")
			}
			if took := time.Since(revoked); took > 10*time.Second { // promised: 1 s, of a machine that is not loaded
				t.Errorf("the streams ended after %v", took)
			}
			wantCode(t, "presence", presence.Err(), connect.CodeUnauthenticated)
			wantCode(t, "rows", rows.Err(), connect.CodeUnauthenticated)
			h.connectDevice("a-0")
			if !bystander.Receive() {
				t.Errorf("the other operator's stream ended too: %v", bystander.Err())
			}
			token = h.token("ann", registry.RoleViewer, "")
		})
	}
}

func TestCloseEndsStreams(t *testing.T) {
	h := newHub(t)
	stream := must(h.as(h.admin).devices.WatchPresence(testContext(t), req(&operatorv1.WatchPresenceRequest{})))(t)
	defer stream.Close()
	for stream.Receive() && !stream.Msg().GetSynced() {
	}
	h.server.Close()
	if stream.Receive() {
		t.Error("a message after Close")
	}
	wantCode(t, "the stream", stream.Err(), connect.CodeUnavailable)
	_, err := h.as(h.admin).operators.WhoAmI(context.Background(), req(&operatorv1.WhoAmIRequest{}))
	wantCode(t, "a call after Close", err, connect.CodeUnavailable)
}

// A reader who takes nothing in loses rows, is told how many in all, and
// holds up neither the hub nor other readers.
func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	slow := must(h.as(h.admin).telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{Measurement: "telemetry", DeviceIds: []string{"a-0"}})))(t)
	defer slow.Close()
	probe := must(h.as(h.admin).telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{})))(t)
	h.awaitTail(probe)
	_ = probe.Close()
	const batches, size = 120, 1000
	for range batches {
		h.append("a-0", size)
	}
	var got, missed uint64
	for got+missed < batches*size {
		if !slow.Receive() {
			t.Fatalf("after %d rows and %d missed: %v", got, missed, slow.Err())
		}
		got += uint64(len(slow.Msg().GetRows()))
		missed += slow.Msg().GetMissedRows()
	}
	if got+missed != batches*size || missed == 0 {
		t.Errorf("%d rows and %d missed of %d", got, missed, batches*size)
	}
}

// A stream on which nothing happens lives longer than a caller may take for
// one message.
func TestIdleStreamLives(t *testing.T) {
	h := newHub(t)
	const patience = time.Second // a busy machine takes its time for a message, too
	h.server.SetPatience(patience)
	h.device("a-0", "a")
	streams := map[string]*connect.ServerStreamForClient[operatorv1.WatchPresenceResponse]{}
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}} {
		stream := must(h.as(h.admin, options...).devices.WatchPresence(testContext(t), req(&operatorv1.WatchPresenceRequest{})))(t)
		defer stream.Close()
		for stream.Receive() && !stream.Msg().GetSynced() {
		}
		streams[name] = stream
	}
	<-time.After(2 * patience) // what passes is the point
	h.connectDevice("a-0")
	for name, stream := range streams {
		if !stream.Receive() {
			t.Errorf("%s: after a while without a message: %v", name, stream.Err())
		}
	}
}

// A caller who takes nothing in is let go, when its time is over or its token
// is revoked, although a write to it is under way.
func TestStuckReaderIsLetGo(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *hub){
		"time is over": func(_ *testing.T, h *hub) { h.server.SetPatience(2 * time.Second) },
		"revoked":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			if end != nil {
				end(t, h)
			}
			h.device("a-0", "a")
			c := h.as(h.token("ann", registry.RoleViewer, ""))
			stuck := must(c.telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{DeviceIds: []string{"a-0"}})))(t)
			defer stuck.Close()
			probe := must(h.as(h.admin).telemetry.WatchRows(testContext(t), req(&operatorv1.WatchRowsRequest{})))(t)
			h.awaitTail(probe)
			_ = probe.Close()
			h.appendText("a-0", 12<<20) // HTTP/2 holds 4 MiB for the caller
			if end == nil {
				if err := h.registry.DeleteOperator(testContext(t), "ann"); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the call is over", func() bool { return h.server.Calls("ann") == 0 })
		})
	}
}
