package hub_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// BenchmarkCommandRoundTrip is one command at a time, from the operator's call
// to the operator having the result: Tetherline over wss and the operator API,
// hub in a process of its own, and in the same run, one after the other,
// Mosquitto with QoS 1 over TLS, a request topic to the device and a topic
// back. The operator's calls go over HTTP/2 ("hub") and, in turns with these,
// over HTTP/1.1 ("http1"). Tetherline has by then written and fsynced the
// command, and then its end; the audit record comes soon after, with others.
// Mosquitto keeps nothing. The device remembers ids in memory. "fsync" is what
// the disk takes, in the same run, for an append of 4 KiB: two of them, one
// after the other, are in each command.
func BenchmarkCommandRoundTrip(b *testing.B) {
	h := benchProcess(b)
	hub, http1 := newHubTrip(b, h, h.Endpoint, "bench"), newHubTrip(b, h, overHTTP1(b, h.Endpoint), "bench-1")
	broker := newBrokerTrip(b)
	disk := newDiskTrip(b)
	var ours, oursOver1, theirs, raw []time.Duration
	for range 100 { // until everything is warm
		hub.trip(b)
		http1.trip(b)
		broker.trip(b)
	}
	spent := cpuTime(h.PID())
	for b.Loop() {
		ours = append(ours, hub.trip(b))
		oursOver1 = append(oursOver1, http1.trip(b))
		theirs = append(theirs, broker.trip(b))
		raw = append(raw, disk.trip(b))
	}
	spent = cpuTime(h.PID()) - spent
	reportTrips(b, "hub", ours)
	reportTrips(b, "http1", oursOver1)
	reportTrips(b, "mosquitto", theirs)
	reportTrips(b, "fsync", raw)
	b.ReportMetric(float64(spent.Microseconds())/float64(len(ours)+len(oursOver1)), "hub-cpu-µs")
	b.ReportMetric(float64(quantile(ours, 50))/float64(quantile(theirs, 50)), "of-mosquitto")
	b.ReportMetric(0, "ns/op")
}

func reportTrips(b *testing.B, name string, took []time.Duration) {
	b.ReportMetric(float64(quantile(took, 50).Microseconds()), name+"-p50-µs")
	b.ReportMetric(float64(quantile(took, 99).Microseconds()), name+"-p99-µs")
}

// quantile of what was measured, in percent.
func quantile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, len(took)*percent/100)]
}

// benchProcess is a hub in a process of its own.
func benchProcess(b *testing.B) *hubtest.Process {
	cfg := hubtest.Config(b)
	cfg.Listen = hubtest.FreeAddr(b)
	cfg.LogLevel = "error"
	cfg.AddressRate = 10_000
	return hubtest.StartProcess(b, cfg)
}

// trips takes the ends of commands from one watch, which stands all the time.
type trips struct {
	api  hubtest.Endpoint
	ends sync.Map // id to chan time.Time
}

func watchTrips(b *testing.B, api hubtest.Endpoint, filter *operatorv1.WatchCommandsRequest) *trips {
	t := &trips{api: api}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := api.Commands.WatchCommands(ctx, connect.NewRequest(filter))
	if err != nil {
		b.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for stream.Receive() {
			if c := stream.Msg().Command; ended(c.State) {
				t.end(c.Id) <- time.Now()
			}
		}
	})
	b.Cleanup(func() { cancel(); reading.Wait(); _ = stream.Close() })
	return t
}

// end of a command, which may be known before the answer to its sending is.
func (t *trips) end(id string) chan time.Time {
	c, _ := t.ends.LoadOrStore(id, make(chan time.Time, 1))
	return c.(chan time.Time)
}

func (t *trips) do(ctx context.Context, api hubtest.Endpoint, device string) (time.Duration, error) {
	began := time.Now()
	answer, err := api.Commands.SendCommand(ctx, connect.NewRequest(&operatorv1.SendCommandRequest{
		DeviceId: device, Spec: &operatorv1.CommandSpec{Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`}},
	}))
	if err != nil {
		return 0, err
	}
	id := answer.Msg.Command.Id
	defer t.ends.Delete(id)
	select {
	case at := <-t.end(id):
		return at.Sub(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// hubTrip is a device of a hub, and an operator at a desk.
type hubTrip struct {
	desk   hubtest.Endpoint
	device string
}

func newHubTrip(b *testing.B, h *hubtest.Process, desk hubtest.Endpoint, device string) hubTrip {
	obeying(b, h.Endpoint, h.CreateDevice(b, device), "set-relay", client.Handler{Run: func(context.Context, *client.Command) (client.Result, error) {
		return client.JSONResult(map[string]bool{"on": true})
	}})
	hubtest.Eventually(b, "the device is online", func() bool {
		answer, err := h.Devices.GetDevice(b.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: device}))
		return err == nil && answer.Msg.Device.Presence.GetOnline()
	})
	return hubTrip{desk, device}
}

// overHTTP1 is a desk that does not speak HTTP/2.
func overHTTP1(b *testing.B, e hubtest.Endpoint) hubtest.Endpoint {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: e.Roots}}
	b.Cleanup(transport.CloseIdleConnections)
	e.Commands = operatorv1connect.NewCommandServiceClient(&http.Client{Transport: authorized{transport, e.Token}}, e.URL)
	return e
}

// authorized adds an operator's token to requests.
type authorized struct {
	http.RoundTripper
	token string
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.token)
	return a.RoundTripper.RoundTrip(r)
}

// trip is one call, which is answered when the command has ended.
func (h hubTrip) trip(b *testing.B) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), hubtest.Patience)
	defer cancel()
	began := time.Now()
	answer, err := h.desk.Commands.SendCommand(ctx, connect.NewRequest(&operatorv1.SendCommandRequest{
		DeviceId: h.device, Wait: durationpb.New(time.Minute), // the longest there is
		Spec: &operatorv1.CommandSpec{Name: "set-relay", Payload: &operatorv1.CommandSpec_Json{Json: `{"on":true}`}},
	}))
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if c := answer.Msg.Command; c.State != operatorv1.CommandState_COMMAND_STATE_SUCCEEDED {
		b.Fatalf("%s: %s", c.State, c.Reason)
	}
	return took
}
