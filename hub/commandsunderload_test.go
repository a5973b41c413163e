package hub_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

var commandTime = flag.Duration("commands.time", 10*time.Second, "of BenchmarkCommandsUnderLoad")

// What BenchmarkCommandsUnderLoad carries.
const (
	underLoadDevices  = 1000
	underLoadRate     = 1000 // commands a second to all of them
	underLoadAtOnce   = 4096 // commands that wait for their answer, at most: a machine that is behind is not flooded
	underLoadRowsEach = 20   // rows a second of each
	underLoadBatch    = 10   // rows a frame, or a message
	underLoadDesks    = 16
)

// BenchmarkCommandsUnderLoad is 1,000 commands a second spread over 1,000
// devices while these publish 20,000 rows a second in frames of ten: by way of
// the hub, and then, in the same run, by way of Mosquitto at QoS 1 over TLS,
// with a topic to each device and one back, and the rows as messages that
// nobody subscribes to. Devices and operators are one process, hub and
// Mosquitto others, on this machine. By the time a command has ended, the hub
// has written and fsynced it, its audit record and its end, and its rows are
// fsynced before they are acknowledged; Mosquitto keeps nothing. Run it with
// -benchtime 1x.
func BenchmarkCommandsUnderLoad(b *testing.B) {
	ours, theirs := hubUnderLoad(b), mosquittoUnderLoad(b)
	for _, x := range []underLoad{ours, theirs} {
		b.ReportMetric(x.perSecond(), x.name+"-commands/s")
		b.ReportMetric(x.rows, x.name+"-rows/s")
		b.ReportMetric(x.cores, x.name+"-cores")
		b.ReportMetric(float64(x.failed), x.name+"-failed")
		reportTrips(b, x.name, x.took)
	}
	b.ReportMetric(float64(quantile(ours.took, 50))/float64(quantile(theirs.took, 50)), "of-mosquitto-p50")
	b.ReportMetric(float64(quantile(ours.took, 99))/float64(quantile(theirs.took, 99)), "of-mosquitto-p99")
	b.ReportMetric(0, "ns/op")
	table := newTable("1,000 commands/s to 1,000 devices, beside 20,000 rows/s", "commands/s", "rows/s", "p50", "of Mosquitto", "p99", "of Mosquitto", "cores of the server", "failed")
	for _, x := range []underLoad{ours, theirs} {
		p50, p99 := quantile(x.took, 50), quantile(x.took, 99)
		table.row(map[string]string{"hub": "Tetherline, HTTP/2: all of it fsynced", "mosquitto": "Mosquitto, QoS 1, TLS: keeps nothing"}[x.name],
			fmt.Sprintf("%.0f", x.perSecond()), fmt.Sprintf("%.0f", x.rows),
			millis(p50), times(float64(p50), float64(quantile(theirs.took, 50))),
			millis(p99), times(float64(p99), float64(quantile(theirs.took, 99))),
			fmt.Sprintf("%.2f", x.cores), fmt.Sprint(x.failed))
	}
	table.print()
}

// underLoad is what one side of BenchmarkCommandsUnderLoad has done.
type underLoad struct {
	name    string
	took    []time.Duration
	failed  int64
	seconds float64
	rows    float64 // a second
	cores   float64 // of the server
}

func (u *underLoad) perSecond() float64 { return float64(len(u.took)) / u.seconds }

// command begins a command every time one is due, for as long as ctx lasts,
// and waits for all of them. The loop is open: a command that is late waits in
// nobody's queue but the server's.
func (u *underLoad) command(ctx context.Context, b *testing.B, pid int, do func(ctx context.Context, n int) (time.Duration, error)) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed atomic.Int64
	waiting := make(chan struct{}, underLoadAtOnce)
	tick := time.NewTicker(time.Second / underLoadRate)
	defer tick.Stop()
	spent := cpuTime(pid)
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		// A ticker leaves ticks out when the machine is busy: catch up.
		for ; sent < int(time.Since(began).Seconds()*underLoadRate); sent++ {
			select {
			case <-ctx.Done():
			case waiting <- struct{}{}:
			}
			if ctx.Err() != nil {
				break
			}
			n, due := sent, began.Add(time.Duration(sent)*time.Second/underLoadRate)
			all.Go(func() {
				defer func() { <-waiting }()
				limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), hubtest.Patience)
				defer cancel()
				late := time.Since(due)
				d, err := do(limited, n)
				if err != nil {
					if failed.Add(1) == 1 {
						b.Logf("the first that failed: %v", err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				u.took = append(u.took, d+late)
			})
		}
	}
	all.Wait()
	u.seconds = time.Since(began).Seconds() // those that were late count for what they are
	u.cores = (cpuTime(pid) - spent).Seconds() / u.seconds
	u.failed = failed.Load()
}

func hubUnderLoad(b *testing.B) underLoad {
	h := benchProcess(b)
	ids := make([]string, underLoadDevices)
	clients := make([]*client.Client, underLoadDevices)
	for i := range ids {
		ids[i] = fmt.Sprintf("dev-%04d", i)
	}
	var stops []func() error
	for i, c := range createDevices(b, h.Endpoint, ids) {
		cfg := h.Client(c)
		cfg.MaxBatchRows, cfg.MaxBatchAge = underLoadBatch, 5*time.Second
		cfg.Commands = map[string]client.Handler{"set-relay": {Run: nothing}}
		c, stop := hubtest.Run(b, cfg)
		clients[i], stops = c, append(stops, stop)
	}
	hubtest.Eventually(b, "the devices are online", func() bool { return status(b, h.Endpoint).DevicesOnline == underLoadDevices })
	t := watchTrips(b, h.Endpoint, &operatorv1.WatchCommandsRequest{})
	desks := operators(b, h.Endpoint, underLoadDesks)

	ctx, cancel := context.WithTimeout(b.Context(), *commandTime)
	defer cancel()
	var publishing sync.WaitGroup
	for _, c := range clients {
		publishing.Go(func() { publishEvery(ctx, c, time.Second/underLoadRowsEach) })
	}
	u := underLoad{name: "hub"}
	u.command(ctx, b, h.PID(), func(ctx context.Context, n int) (time.Duration, error) {
		return t.do(ctx, desks[n%len(desks)], ids[n%len(ids)])
	})
	publishing.Wait()
	for _, c := range clients {
		if err := c.Flush(b.Context()); err != nil {
			b.Error(err)
		}
		u.rows += float64(c.Stats().RowsAcked) / u.seconds
	}
	for _, stop := range stops { // what comes next has the machine to itself
		_ = stop()
	}
	if err := h.Terminate(); err != nil {
		b.Errorf("the hub ends with %v", err)
	}
	return u
}

// operators are so many who send: the calls that one may have under way are
// bounded.
func operators(b *testing.B, h hubtest.Endpoint, n int) (desks []hubtest.Endpoint) {
	b.Helper()
	for i := range n {
		answer, err := h.Operators.CreateOperator(b.Context(), connect.NewRequest(&operatorv1.CreateOperatorRequest{
			Name: fmt.Sprint("operator-", i), Role: operatorv1.Role_ROLE_OPERATOR,
		}))
		if err != nil {
			b.Fatal(err)
		}
		desk := h.As(answer.Msg.Token)
		b.Cleanup(desk.Close)
		desks = append(desks, desk)
	}
	return desks
}

func publishEvery(ctx context.Context, c *client.Client, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := int64(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.Publish(ctx, client.Reading(client.Int("n", n), client.Double("celsius", 21.5))); err != nil {
			return
		}
	}
}
