package hub_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/tetherline/tetherline/device"
	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

var (
	hostileStrangers = flag.Int("hostile.strangers", 5000, "strangers of BenchmarkHostileLoad")
	hostileDevices   = flag.Int("hostile.devices", 2000, "devices at work of BenchmarkHostileLoad, with two frames a second each")
)

// strangersAddresses is how many addresses strangers come from: others than
// that of devices and operators, on systems that have more for loopback.
const strangersAddresses = 8

// strangers hold connections to a hub that they never prove themselves to:
// a quarter each says nothing, drips a TLS handshake byte by byte, holds an
// upgraded connection, and floods it with wrong Hellos. Whoever is cut off
// comes back. PerSecond bounds the connections of all of them together: they
// share the machine with the hub.
type strangers struct {
	Addr      string
	CA        []byte
	N         int
	PerSecond int
}

// strangersRole says the strangers' counts when it is told to end.
func strangersRole(argument string) error {
	var a strangers
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	if err := lowestPriority(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pace := rate.NewLimiter(rate.Limit(a.PerSecond), a.PerSecond)
	var open, tried atomic.Int64
	var peak int64
	var all sync.WaitGroup
	for i := range a.N {
		all.Go(func() {
			for ctx.Err() == nil && pace.Wait(ctx) == nil {
				tried.Add(1)
				a.visit(ctx, i%4, &open)
			}
		})
	}
	input := bufio.NewReader(os.Stdin)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && open.Load() < int64(a.N)/4; {
		time.Sleep(10 * time.Millisecond)
	}
	peak = open.Load()
	if err := say(input, "open"); err != nil {
		return nil
	}
	peak = max(peak, open.Load())
	fmt.Println(peak, tried.Load())
	cancel()
	all.Wait()
	return nil
}

// visit is one connection until it is cut off.
func (a *strangers) visit(ctx context.Context, kind int, open *atomic.Int64) {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+rand.IntN(strangersAddresses)))}}
	conn, err := from.DialContext(ctx, "tcp", a.Addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		conn, err = net.Dial("tcp", a.Addr)
	}
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	open.Add(1)
	defer open.Add(-1)
	one := make([]byte, 1)
	switch kind {
	case 0: // nothing
		_, _ = conn.Read(one)
	case 1: // a drip
		hello := []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}
		for i := 0; ctx.Err() == nil; i++ {
			b := byte(rand.Uint32())
			if i < len(hello) {
				b = hello[i]
			}
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := conn.Read(one); err != nil && !os.IsTimeout(err) {
				return
			}
		}
	default:
		dialer := websocket.Dialer{
			NetDialContext:  func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{device.Protocol},
		}
		ws, _, err := dialer.DialContext(ctx, "wss://"+a.Addr+device.Path, nil)
		if err != nil {
			return
		}
		if kind == 3 {
			wrong := make([]byte, 4000)
			wrong[0] = 0x0a
			for ws.WriteMessage(websocket.BinaryMessage, wrong) == nil {
			}
		}
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
		}
	}
}

// profiled is loadThrough with a CPU profile of the hub from the moment when
// all devices are connected, where hubtest.ProfileEnv asks for profiles: of
// those, the ones with odd numbers are such.
func profiled(b *testing.B, h *hubtest.Process, cfg firmwaresim.LoadConfig) firmwaresim.LoadSummary {
	p := startLoad(b, h, true, cfg)
	p.await("enrolled")
	p.goOn()
	p.await("connected")
	h.NextProfile()
	p.goOn()
	s := summaryOf(b, p)
	h.NextProfile()
	return s
}

// BenchmarkHostileLoad shows what 2,000 devices at work notice of 5,000
// strangers who hold, drip and flood connections: their acknowledgements,
// with and without them, in turns, in one run of one hub. The strangers have
// the lowest priority, as if they had machines of their own: what they make
// the hub do counts, and what they do themselves does not, as far as the
// system's scheduler goes. Run it with -benchtime 1x; it takes about two minutes.
func BenchmarkHostileLoad(b *testing.B) {
	db := influxtest.Start(b)
	defer db.Kill()
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket = db.URL, db.Bucket
	h := hubtest.StartProcess(b, cfg)
	work := firmwaresim.LoadConfig{Devices: *hostileDevices, Rate: 2 * float64(*hostileDevices), For: 12 * time.Second}
	warm := work
	warm.For = 10 * time.Second
	loadThrough(b, h, warm) // enrolled
	var quiet, hostile []firmwaresim.LoadSummary
	for range 3 {
		quiet = append(quiet, profiled(b, h, work))
		s := play(b, "strangers", strangers{Addr: h.Addr, N: *hostileStrangers, PerSecond: 500})
		s.await("open")
		before := cpuTime(s.cmd.Process.Pid)
		began := time.Now()
		hostile = append(hostile, profiled(b, h, work))
		b.Logf("CPU of the strangers: %.0f %% of a core", 100*(cpuTime(s.cmd.Process.Pid)-before).Seconds()/time.Since(began).Seconds())
		s.goOn()
		b.Logf("connections of strangers open at once, and made in all: %s", s.hear())
		s.end()
	}
	b.Logf("%-16s %12s %12s %12s %12s %12s %12s", "acknowledgement", "p50", "p99", "p99.9", "max", "CPU of hub", "reconnects")
	row := func(name string, x firmwaresim.LoadSummary) {
		ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }
		cores := (x.Hub.UserSeconds + x.Hub.SystemSeconds) / work.For.Seconds()
		b.Logf("%-16s %12s %12s %12s %12s %10.0f %% %12d", name, ms(x.AckP50), ms(x.AckP99), ms(x.AckP999), ms(x.AckMax), 100*cores, x.Reconnects)
	}
	p99 := func(runs []firmwaresim.LoadSummary) float64 { // the median of the runs
		var all []time.Duration
		for _, x := range runs {
			all = append(all, x.AckP99)
		}
		slices.Sort(all)
		return all[len(all)/2].Seconds()
	}
	for i := range quiet {
		row("quiet", quiet[i])
		row("with strangers", hostile[i])
	}
	b.ReportMetric(p99(hostile)/p99(quiet), "p99/quiet")
	b.ReportMetric(0, "ns/op")
}
