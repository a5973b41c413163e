package hub_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// SIGTERM under load: exit 0 within 10 s, or what a busy machine makes of them, every device is told so by 1001,
// and every acknowledged row is stored after the restart.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	const devices = 20
	for name, away := range map[string]bool{"store well": false, "store away": true} {
		t.Run(name, func(t *testing.T) {
			db := influxtest.Start(t)
			cfg := influxConfig(t, db)
			cfg.Listen = hubtest.FreeAddr(t)
			cfg.LogLevel = "error"
			h := hubtest.StartProcess(t, cfg)
			heard := newGoodbyes(devices)
			f := newFlock(t, h.Endpoint, devices, heard.listen)
			f.publish(t, 5*time.Millisecond)
			f.awaitAcks(t, make([]int, devices))
			if away {
				db.Stop()
				f.awaitAcks(t, f.acked())
			}

			began := time.Now()
			if err := h.Terminate(); err != nil {
				t.Errorf("the hub ended with %v; want exit 0", err)
			}
			took := time.Since(began)
			if took > 30*time.Second {
				t.Errorf("the hub stopped after %v; want 10 s at most, of a machine that is not busy", took)
			}
			heard.want(t, f, 1001)
			acked := f.acked()
			if away {
				db.Start()
			}
			h.Start()
			f.awaitAcks(t, acked)
			rows := f.settle(t)
			f.wantStored(t, db)
			wantNoQuarantine(t, h.Endpoint)
			t.Logf("stopped after %v; %d rows acknowledged, all stored", took.Round(time.Millisecond), rows)
		})
	}
}

// goodbyes are the first close codes that devices have heard on a session.
type goodbyes struct {
	mu     sync.Mutex
	online []bool // it has had a session
	code   []int  // 0: the session ended without one; -1: it has not ended
}

func newGoodbyes(devices int) *goodbyes {
	c := &goodbyes{online: make([]bool, devices), code: make([]int, devices)}
	for i := range c.code {
		c.code[i] = -1
	}
	return c
}

// listen is for newFlock.
func (c *goodbyes) listen(i int, cfg *client.Config) {
	cfg.OnStateChange = func(s client.State, why error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.online[i] = c.online[i] || s == client.Online
		if s != client.Waiting || !c.online[i] || c.code[i] >= 0 {
			return
		}
		c.code[i] = 0
		if closed := new(client.CloseError); errors.As(why, &closed) {
			c.code[i] = closed.Code
		}
	}
}

// want waits until every device has lost its connection, and wants each to
// have heard the code.
func (c *goodbyes) want(t testing.TB, f *flock, code int) {
	t.Helper()
	hubtest.Eventually(t, "every device has lost its connection", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, heard := range c.code {
			if heard < 0 {
				return false
			}
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, heard := range c.code {
		if heard != code {
			t.Errorf("%s heard close code %d; want %d", f.gauges[i].id, heard, code)
		}
	}
}
