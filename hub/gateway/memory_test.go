package gateway_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tetherline/tetherline/device"
)

// BenchmarkIdleMemory shows the heap and stacks of an idle device, of its own
// side (in this process too) and of the hub's, beside those of a bare WebSocket
// server. Run it with -benchtime=1x.
func BenchmarkIdleMemory(b *testing.B) {
	devices := 2000
	if n, err := strconv.Atoi(os.Getenv("IDLE_DEVICES")); err == nil {
		devices = n
	}
	b.Run("bare", func(b *testing.B) {
		cert, roots := selfSigned(b)
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		upgrader := websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
				go func() { _, _, _ = ws.NextReader() }()
			}
		})}
		go func() { _ = server.Serve(tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{cert}})) }()
		defer func() { _ = server.Close() }()
		d := &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots}}
		measure(b, devices, func(int) *websocket.Conn {
			ws, _, err := d.Dial("wss://"+inner.Addr().String()+device.Path, nil)
			if err != nil {
				b.Fatal(err)
			}
			return ws
		})
	})
	b.Run("hub", func(b *testing.B) {
		h := startHub(b, options{})
		var credentials []device.Credential
		for i := range devices {
			credentials = append(credentials, h.create(fmt.Sprintf("dev-%06d", i)))
		}
		measure(b, devices, func(i int) *websocket.Conn { return h.connect(credentials[i], 1).ws })
		if got := h.table.Peak(); got != devices {
			b.Fatalf("%d online", got)
		}
	})
}

func measure(b *testing.B, n int, connect func(i int) *websocket.Conn) {
	heapBefore, stackBefore, rssBefore := inUse()
	conns := make([]*websocket.Conn, n)
	for i := range conns {
		conns[i] = connect(i)
	}
	time.Sleep(2 * time.Second) // acknowledgements of presence; nothing is waited for
	heap, stack, rssAfter := inUse()
	b.ReportMetric(float64(heap-heapBefore)/float64(n), "heap-B/device")
	b.ReportMetric(float64(stack-stackBefore)/float64(n), "stack-B/device")
	b.ReportMetric(float64(rssAfter-rssBefore)/float64(n), "rss-B/device")
	b.ReportMetric(0, "ns/op")
	for _, c := range conns {
		_ = c.Close()
	}
}

// inUse is the live heap, the stacks, and the resident set, in bytes.
func inUse() (heap, stack, rss int64) {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	heap, stack = int64(m.HeapAlloc), int64(m.StackInuse)
	status, _ := os.ReadFile("/proc/self/statm")
	if f := strings.Fields(string(status)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		rss = pages * int64(os.Getpagesize())
	}
	return heap, stack, rss
}
