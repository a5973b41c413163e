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

// BenchmarkCommandsUnderLoad is 1,000 commands a second spread over 1,000
// devices while these publish 20,000 rows a second. Devices and operator are
// one process, the hub is another, on this machine. Run it with -benchtime 1x.
func BenchmarkCommandsUnderLoad(b *testing.B) {
	const devices, rate, rowsEach = 1000, 1000, 20
	h := benchProcess(b)
	ids := make([]string, devices)
	clients := make([]*client.Client, devices)
	for i := range devices {
		ids[i] = fmt.Sprintf("dev-%04d", i)
	}
	for i, c := range createDevices(b, h.Endpoint, ids) {
		cfg := h.Client(c)
		cfg.MaxBatchRows, cfg.MaxBatchAge = 10, 5*time.Second
		cfg.Commands = map[string]client.Handler{"set-relay": {Run: nothing}}
		clients[i], _ = hubtest.Run(b, cfg)
	}
	hubtest.Eventually(b, "the devices are online", func() bool { return status(b, h.Endpoint).DevicesOnline == devices })
	t := watchTrips(b, h.Endpoint, &operatorv1.WatchCommandsRequest{})
	desks := operators(b, h.Endpoint, 16)

	ctx, cancel := context.WithTimeout(b.Context(), *commandTime)
	defer cancel()
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { publishEvery(ctx, c, time.Second/rowsEach) })
	}
	var mu sync.Mutex
	var took []time.Duration
	var failed atomic.Int64
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	spent := cpuTime(h.PID())
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		// A ticker leaves ticks out when the machine is busy: catch up.
		for ; sent < int(time.Since(began).Seconds()*rate); sent++ {
			device, desk := ids[sent%devices], desks[sent%len(desks)]
			all.Go(func() {
				limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), hubtest.Patience)
				defer cancel()
				d, err := t.do(limited, desk, device)
				if err != nil {
					if failed.Add(1) == 1 {
						b.Logf("the first that failed: %v", err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			})
		}
	}
	seconds := time.Since(began).Seconds()
	all.Wait()
	spent = cpuTime(h.PID()) - spent
	var rows uint64
	for _, c := range clients {
		if err := c.Flush(b.Context()); err != nil {
			b.Error(err)
		}
		rows += c.Stats().RowsAcked
	}
	b.ReportMetric(float64(len(took))/seconds, "commands/s")
	b.ReportMetric(float64(rows)/seconds, "rows/s")
	b.ReportMetric(spent.Seconds()/seconds, "hub-cores")
	b.ReportMetric(float64(failed.Load()), "failed")
	reportTrips(b, "command", took)
	b.ReportMetric(0, "ns/op")
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
