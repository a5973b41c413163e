package firmwaresim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// loadOf a hub in this process.
func loadOf(t *testing.T, h *hubtest.Hub, change func(*firmwaresim.LoadConfig)) firmwaresim.LoadSummary {
	t.Helper()
	cfg := firmwaresim.LoadConfig{
		Hub: h.URL, Token: h.Token, RootCAs: h.Roots, Devices: 5, FieldsPerRow: 3, For: 500 * time.Millisecond,
		WaitUntilStored: true,
	}
	change(&cfg)
	s, err := firmwaresim.Load(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantWhole fails where a frame was lost on the way, and where the hub does
// not hold each row once.
func wantWhole(t *testing.T, h *hubtest.Hub, s firmwaresim.LoadSummary, prefix string) {
	t.Helper()
	if s.FramesAcked == 0 || s.FramesRejected+s.FramesDropped+s.Refused+s.Reconnects != 0 {
		t.Fatalf("the load was not taken: %+v", s)
	}
	stored := uint64(0)
	for i := range s.Devices {
		stored += h.Count(t, firmwaresim.LoadID(prefix, i+1))
	}
	if want := uint64(s.FramesAcked) * uint64(s.RowsPerFrame); stored != want {
		t.Errorf("the hub has stored %d rows of %d that it has acknowledged", stored, want)
	}
	if s.AckP50 <= 0 || s.AckP50 > s.AckP99 || s.AckP99 > s.AckMax {
		t.Errorf("acknowledgements take %v, %v, %v; want them to rise", s.AckP50, s.AckP99, s.AckMax)
	}
}

// In an open loop every device sends what is due, no more and no less.
func TestLoadAtARate(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	s := loadOf(t, h, func(c *firmwaresim.LoadConfig) {
		c.Prefix, c.Rate, c.RowsPerFrame, c.Ramp = "paced", 500, 2, 100*time.Millisecond
	})
	wantWhole(t, h, s, "paced")
	// 500 rows/s of 5 devices are 50 frames/s each, for half a second.
	if want := int64(5 * 25); s.FramesAcked != want || !s.OpenLoop {
		t.Errorf("%d frames are acknowledged; want %d", s.FramesAcked, want)
	}
	if s.ConnectSeconds < 0.08 {
		t.Errorf("all are connected after %v s of a ramp of 0.1 s", s.ConnectSeconds)
	}
}

// In a storm every device loses its connection and comes back; what was not
// acknowledged is sent again and stored once.
func TestLoadWithAStorm(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]bool{"sending": false, "idle": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hubtest.Start(t, hubtest.Config(t))
			s := loadOf(t, h, func(c *firmwaresim.LoadConfig) {
				c.Prefix, c.Devices, c.Storm, c.Idle, c.Rate = "storm", 20, true, idle, 2000
				c.WaitUntilStored = !idle
			})
			if s.Recovery == nil || s.Recovery.Lost < 1 || s.Recovery.Seconds < s.Recovery.ReturnSeconds {
				t.Errorf("recovery is %+v", s.Recovery)
			}
			if s.Reconnects < 20 || s.Refused != 0 {
				t.Errorf("%d reconnects of 20 devices that were all cut off, %d refused", s.Reconnects, s.Refused)
			}
			if idle {
				return
			}
			for i := range s.Devices {
				if n, want := h.Count(t, firmwaresim.LoadID("storm", i+1)), uint64(s.FramesAcked)/20; n != want {
					t.Errorf("device %d: %d rows are stored; want %d", i+1, n, want)
				}
			}
		})
	}
}

// A load has a hub of its own, whose memory is measured without garbage, and
// which it restarts in the end. Who thinks sends no frame before the answer to
// the one before.
func TestLoadOfItsOwnHub(t *testing.T) {
	t.Parallel()
	const devices, think = 8, 20 * time.Millisecond
	s, err := firmwaresim.Load(t.Context(), firmwaresim.LoadConfig{
		Own: &firmwaresim.OwnHub{Hubd: os.Args[0], Influxd: "none"}, Devices: devices, Think: think,
		FieldsPerRow: 4, For: 500 * time.Millisecond, WaitUntilStored: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(devices * (500/20 + 1)); s.FramesAcked < devices || s.FramesAcked > most || s.FramesDropped+s.Reconnects != 0 {
		t.Errorf("%d frames are acknowledged, %d dropped, with %d reconnects; want up to %d, and no other",
			s.FramesAcked, s.FramesDropped, s.Reconnects, most)
	}
	if x := s.Restart; x == nil || x.Lost != devices || x.ReadySeconds <= 0 || x.Seconds < x.ReturnSeconds {
		t.Errorf("the restart is %+v", x)
	}
	if s.Store != "the embedded store" {
		t.Errorf("the store is %q", s.Store)
	}
	if runtime.GOOS != "linux" {
		return
	}
	h := s.Hub
	if h == nil || !h.Collected || h.RSSBefore <= 0 || h.RSSAfter <= 0 {
		t.Fatalf("the hub's process: %+v", h)
	}
	if want := h.MicrosPerFrame / 4; h.MicrosPerValue != want || want <= 0 {
		t.Errorf("%v µs a value; want %v", h.MicrosPerValue, want)
	}
	var text bytes.Buffer
	if _, err := s.WriteTo(&text); err != nil || !strings.Contains(text.String(), "after a SIGKILL") ||
		!strings.Contains(text.String(), "after a collection of garbage") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// Nobody's memory is taken for the hub's.
func TestLoadKnowsTheHubsProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	_, err := firmwaresim.Load(t.Context(), firmwaresim.LoadConfig{
		Hub: h.URL, Token: h.Token, RootCAs: h.Roots, Devices: 1, For: time.Second, HubPID: 1,
	})
	if err == nil || !strings.Contains(err.Error(), "1 is not the process of the hub") {
		t.Errorf("got %v", err)
	}
}

// A second load of the same devices stores rows of its own.
func TestLoadFlatOut(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.DeviceFrames, cfg.DeviceBytes, cfg.WindowFrames = 1e6, 1e9, 4
	h := hubtest.Start(t, cfg)
	before := int64(0)
	for range 2 {
		s := loadOf(t, h, func(c *firmwaresim.LoadConfig) {
			c.Prefix, c.RowsPerFrame, c.HubPID = "flat", 10, os.Getpid()
		})
		all := s
		all.FramesAcked += before
		before = all.FramesAcked
		wantWhole(t, h, all, "flat")
		if s.StoredPerSecond <= 0 || s.ValuesPerSecond <= 0 {
			t.Errorf("%v values/s are stored, %v acknowledged", s.StoredPerSecond, s.ValuesPerSecond)
		}
		if runtime.GOOS == "linux" && (s.Hub == nil || s.Hub.MicrosPerFrame <= 0 || s.Hub.RSSAfter <= 0) {
			t.Errorf("the hub's process: %+v", s.Hub)
		}
	}
}

// A hub that throttles gets its frames again, and every one once.
func TestLoadIsThrottled(t *testing.T) {
	t.Parallel()
	cfg := hubtest.Config(t)
	cfg.DeviceFrames = 10 // with a burst for two windows
	cfg.WindowFrames = 8
	h := hubtest.Start(t, cfg)
	var throttles, resent int64
	for try := range 5 { // a machine that is busy may be slower than the hub takes it
		s := loadOf(t, h, func(c *firmwaresim.LoadConfig) {
			c.Prefix, c.Devices, c.For = fmt.Sprint("over", try), 2, 4*time.Second
		})
		wantWhole(t, h, s, fmt.Sprint("over", try))
		throttles, resent = throttles+int64(s.Throttles), resent+int64(s.FramesResent)
		if throttles > 0 && resent > 0 {
			return
		}
	}
	t.Errorf("%d throttles, %d frames sent again; want some", throttles, resent)
}

// Idle devices are connected, and have sent what they were to send.
func TestIdleLoad(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Config(t))
	var stages []string
	s := loadOf(t, h, func(c *firmwaresim.LoadConfig) {
		c.Prefix, c.Idle, c.FramesAtFirst, c.For = "idle", true, 3, 50*time.Millisecond
		c.Stage = func(stage string) error {
			stages = append(stages, stage)
			if stage == "settled" {
				answer, err := h.Status.GetStatus(t.Context(), connect.NewRequest(&operatorv1.GetStatusRequest{}))
				if err != nil {
					return err
				}
				if answer.Msg.DevicesOnline != 5 {
					t.Errorf("%d devices are online; want 5", answer.Msg.DevicesOnline)
				}
			}
			return nil
		}
	})
	if got := strings.Join(stages, " "); got != "enrolled connected settled" {
		t.Errorf("stages are %q", got)
	}
	if s.FramesAcked != 15 {
		t.Errorf("%d frames are acknowledged; want 15", s.FramesAcked)
	}
}

// A summary is for people and for programs.
func TestLoadSummary(t *testing.T) {
	s := firmwaresim.LoadSummary{Devices: 3, FramesSent: 10, FramesAcked: 10, AckP99: 5 * time.Millisecond, Hub: &firmwaresim.HubUse{MicrosPerFrame: 7.5}}
	var text bytes.Buffer
	if _, err := s.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"devices", "p99 5ms", "7.50 µs a frame"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, &text)
		}
	}
	var back firmwaresim.LoadSummary
	if b, err := json.Marshal(s); err != nil || json.Unmarshal(b, &back) != nil || *back.Hub != *s.Hub {
		t.Errorf("as JSON: %s %v", b, err)
	}
}

// What makes no sense is refused before anybody is enrolled.
func TestLoadConfigIsChecked(t *testing.T) {
	good := firmwaresim.LoadConfig{Hub: "https://127.0.0.1:1", Devices: 1, For: time.Second}
	for want, change := range map[string]func(*firmwaresim.LoadConfig){
		"is no URL":       func(c *firmwaresim.LoadConfig) { c.Hub = "http://127.0.0.1:1" },
		"devices, not 0":  func(c *firmwaresim.LoadConfig) { c.Devices = 0 },
		"0 or more":       func(c *firmwaresim.LoadConfig) { c.Rate = -1 },
		"rows, not 1001":  func(c *firmwaresim.LoadConfig) { c.RowsPerFrame = 1001 },
		"fields, not 257": func(c *firmwaresim.LoadConfig) { c.FieldsPerRow = 257 },
		"lasts up to":     func(c *firmwaresim.LoadConfig) { c.For = 0 },
		"bytes":           func(c *firmwaresim.LoadConfig) { c.RowsPerFrame, c.FieldsPerRow = 1000, 10 },
		"prefix":          func(c *firmwaresim.LoadConfig) { c.Prefix = "no space" },
		"has no rate":     func(c *firmwaresim.LoadConfig) { c.Rate, c.Think = 10, time.Second },
		"not both":        func(c *firmwaresim.LoadConfig) { c.Own = &firmwaresim.OwnHub{} },
		"and a bucket": func(c *firmwaresim.LoadConfig) {
			c.Hub, c.Own = "", &firmwaresim.OwnHub{InfluxURL: "http://127.0.0.1:1"}
		},
		"has a frame": func(c *firmwaresim.LoadConfig) { c.Rate = 0.1 },
	} {
		cfg := good
		change(&cfg)
		_, err := firmwaresim.Load(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want an error with %q", err, want)
		}
	}
}
