package firmwaresim

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	credential "github.com/tetherline/tetherline/device"
)

// Bounds of a LoadConfig.
const (
	maxLoadDevices = 100_000
	maxLoadTime    = time.Hour
	maxLoadRate    = 5e6                    // rows a second, and
	maxLoadFrames  = 1e6                    // frames: a server that only reads takes less on many processors
	loadFirstPause = 100 * time.Millisecond // at most, before a device connects again
)

// LoadConfig describes a load: devices that do nothing but send frames of one
// shape, on a client of the protocol that is as small as can be, so that what
// is measured is the hub.
type LoadConfig struct {
	// Own is a hub that the load starts; nil: Hub, Token and RootCAs say where
	// one is. A load that has started its hub kills and starts it again in the
	// end, to see how fast all devices are back.
	Own *OwnHub

	Hub     string         // URL of the operator API, https://host:port
	Token   string         // of an operator
	RootCAs *x509.CertPool `json:"-"` // that the hub's certificate comes from; nil: the system's
	Prefix  string         // of the ids; "": "load"

	Devices         int           // 1 to 100,000
	Rate            float64       // rows a second of all devices together, to 5,000,000 and 1,000,000 frames; 0: as fast as windows allow
	Think           time.Duration // Rate 0: what a device waits after each acknowledgement before its next frame; 0: it sends as windows allow
	RowsPerFrame    int           // 1 to 1,000; 0: 1
	FieldsPerRow    int           // 1 to 256; 0: 10
	Ramp            time.Duration // in which the devices connect; 0: as fast as the hub takes them
	For             time.Duration // of sending, or of holding still, from when all are connected; to 1 h
	Idle            bool          // connect and hold still; Rate is not looked at
	FramesAtFirst   int           // that each idle device sends before it holds still
	Storm           bool          // halfway (Idle: once it holds still) every connection is cut at once, and comes back as fast as it can
	Pause           time.Duration // the longest before a device tries to connect again; 0: 5 s, in a storm and with Own 0.1 s
	HubPID          int           // of a hub on this machine, whose CPU time and memory are reported; 0: none
	WaitUntilStored bool          // the hub's CPU time is taken when all is stored; else when all is acknowledged

	// Progress hears what is going on; nil: nobody.
	Progress func(what string, done, of int) `json:"-"`
	// Stage is called between the stages of a load, which waits for it:
	// "enrolled", "connected", and where it is Idle "settled", when each
	// device has sent its first frames. An error ends the load. nil: nobody
	// is asked.
	Stage func(stage string) error `json:"-"`
}

func (c *LoadConfig) complete() error {
	if c.Prefix == "" {
		c.Prefix = "load"
	}
	if c.RowsPerFrame == 0 {
		c.RowsPerFrame = 1
	}
	if c.FieldsPerRow == 0 {
		c.FieldsPerRow = 10
	}
	if c.Pause == 0 {
		c.Pause = 5 * time.Second
		if c.Storm || c.Own != nil {
			c.Pause = loadFirstPause
		}
	}
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	u, err := url.Parse(c.Hub)
	switch {
	case c.Own != nil && (c.Hub != "" || c.HubPID != 0):
		return errors.New("a load has a hub of its own, or is told of one: not both")
	case c.Own != nil && (c.Own.InfluxURL == "") != (c.Own.InfluxBucket == ""):
		return errors.New("an InfluxDB that is there already needs a URL and a bucket")
	case c.Own != nil:
	case err != nil || u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("hub %q is no URL, as https://127.0.0.1:8443", c.Hub)
	}
	switch {
	case c.Devices < 1 || c.Devices > maxLoadDevices:
		return fmt.Errorf("a load has 1 to %d devices, not %d", maxLoadDevices, c.Devices)
	case !(c.Rate >= 0) || math.IsInf(c.Rate, 0): // NaN is none of these
		return fmt.Errorf("a rate is 0 or more rows a second, not %v", c.Rate)
	case c.Rate > maxLoadRate || c.Rate/float64(max(c.RowsPerFrame, 1)) > maxLoadFrames:
		return fmt.Errorf("a rate is up to %.0f rows and %.0f frames a second, not %v rows in frames of %d; 0 is as fast as windows allow", maxLoadRate, maxLoadFrames, c.Rate, c.RowsPerFrame)
	case c.FramesAtFirst > 0 && !c.Idle:
		return errors.New("frames at first are for devices that then hold still: it takes idle too")
	case c.Think < 0 || c.Think > maxLoadTime:
		return fmt.Errorf("a device thinks for up to %v, not %v", maxLoadTime, c.Think)
	case c.Think > 0 && (c.Rate > 0 || c.Idle):
		return errors.New("who thinks between frames has no rate and does not hold still")
	case c.RowsPerFrame < 1 || c.RowsPerFrame > 1000:
		return fmt.Errorf("a frame has 1 to 1000 rows, not %d", c.RowsPerFrame)
	case c.FieldsPerRow < 1 || c.FieldsPerRow > 256:
		return fmt.Errorf("a row has 1 to 256 fields, not %d", c.FieldsPerRow)
	case c.For <= 0 || c.For > maxLoadTime:
		return fmt.Errorf("a load lasts up to %v, not %v", maxLoadTime, c.For)
	case c.Ramp < 0 || c.Ramp > maxLoadTime:
		return fmt.Errorf("a ramp lasts up to %v, not %v", maxLoadTime, c.Ramp)
	case c.Pause < loadFirstPause || c.Pause > time.Minute:
		return fmt.Errorf("a device pauses for up to %v to 1m before it connects again, not %v", loadFirstPause, c.Pause)
	case c.FramesAtFirst < 0:
		return fmt.Errorf("%d frames at first", c.FramesAtFirst)
	}
	if c.Rate > 0 && !c.Idle && c.period() > c.For {
		return fmt.Errorf("at %v rows/s no device has a frame within %v", c.Rate, c.For)
	}
	if err := credential.CheckID(LoadID(c.Prefix, c.Devices)); err != nil {
		return fmt.Errorf("prefix of device ids: %w", err)
	}
	if n := newLoadFrames(c.RowsPerFrame, c.FieldsPerRow, 1).longest(); n > maxLoadFrame {
		return fmt.Errorf("a frame of %d rows of %d fields has %d bytes; the protocol allows %d",
			c.RowsPerFrame, c.FieldsPerRow, n, maxLoadFrame)
	}
	if c.Stage == nil {
		c.Stage = func(string) error { return nil }
	}
	return nil
}

// period between the frames of a device, at a rate.
func (c *LoadConfig) period() time.Duration {
	return max(time.Duration(min(float64(time.Second)*float64(c.RowsPerFrame*c.Devices)/c.Rate, float64(math.MaxInt64/2))), 1)
}

// LoadID is the id of a load's device, counted from 1.
func LoadID(prefix string, n int) string { return fmt.Sprintf("%s-%06d", prefix, n) }
