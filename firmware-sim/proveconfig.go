package firmwaresim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// ProveConfig describes a proof: a hub of its own, a fleet, and what breaks.
type ProveConfig struct {
	For      time.Duration // in which things break, 10 s to 48 h; 0: 2 min
	Devices  int           // 5 to 5,000; 0: 200
	Rate     float64       // rows a second of all devices together; 0: 1,000
	Commands float64       // commands a second to all devices together, to 500; 0: 5
	Seed     uint64        // of the schedule; 0: a new one

	// Hubd is the hub's program; "": see FindHubd. Influxd is that of
	// InfluxDB 1.8; "": it is looked for, and where there is none the hub
	// stores in its embedded store; "none": that in any case.
	Hubd, Influxd string
	// Dir holds everything; it must be empty or not exist. "": a temporary
	// folder, which is removed where every promise held.
	Dir string

	// Only or Without chooses among Faults; both empty: all.
	Only, Without []string

	// Progress hears what happens, a line at a time, from one goroutine at a
	// time; nil: nobody.
	Progress func(line string)
}

func (c *ProveConfig) complete() error {
	if c.For == 0 {
		c.For = 2 * time.Minute
	}
	if c.Devices == 0 {
		c.Devices = 200
	}
	if c.Rate == 0 {
		c.Rate = 1000
	}
	if c.Commands == 0 {
		c.Commands = 5
	}
	if c.Seed == 0 {
		c.Seed = 1 + rand.Uint64N(1<<32-1)
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	switch {
	case c.For < 10*time.Second || c.For > 48*time.Hour:
		return fmt.Errorf("a proof takes 10s to 48h, not %v", c.For)
	case c.Devices < 5 || c.Devices > 5000:
		return fmt.Errorf("a proof has 5 to 5000 devices, not %d", c.Devices)
	case !(c.Rate >= float64(c.Devices)/60 && c.Rate <= float64(c.Devices)*100):
		return fmt.Errorf("rate %g is not 1 row a minute to 100 rows a second for each of %d devices", c.Rate, c.Devices)
	case !(c.Commands >= 0.1 && c.Commands <= 500):
		return fmt.Errorf("%g commands a second are not 0.1 to 500", c.Commands)
	case c.Rate*c.For.Seconds() > 1e9:
		return errors.New("these are more than 1,000,000,000 rows: lower the rate")
	case c.Commands*c.For.Seconds() > 2e6:
		return errors.New("these are more than 2,000,000 commands: lower their rate")
	}
	return c.checkFaults()
}

// checkFaults refuses a choice of faults that contradicts itself or leaves
// none: what it was meant to be nobody knows.
func (c *ProveConfig) checkFaults() error {
	for _, name := range slices.Concat(c.Only, c.Without) {
		if _, ok := faultNamed(name); !ok {
			return fmt.Errorf("there is no fault %q; there are %s", name, strings.Join(Faults(), ", "))
		}
	}
	for _, name := range c.Without {
		if slices.Contains(c.Only, name) {
			return fmt.Errorf("--only and --without both name %s: leave it out of one of them", name)
		}
		if len(c.Only) > 0 {
			return fmt.Errorf("--without %s changes nothing beside --only %s: leave out --without", name, strings.Join(c.Only, ","))
		}
	}
	if !slices.ContainsFunc(Faults(), c.wants) {
		return errors.New("--without names every fault: nothing would break")
	}
	return nil
}

func (c *ProveConfig) wants(fault string) bool {
	return (len(c.Only) == 0 || slices.Contains(c.Only, fault)) && !slices.Contains(c.Without, fault)
}

// period is the time between two rows of a device.
func (c *ProveConfig) period() time.Duration {
	return time.Duration(float64(c.Devices) / c.Rate * float64(time.Second))
}

// Sizes that follow from a proof's config.
const (
	proveHeartbeat   = 5 * time.Second  // of the hub: the shortest it takes
	provePongTimeout = 10 * time.Second // of the protocol
	proveBuffer      = 2 << 20          // bound of the hub's buffer, so that it can be filled
	forgetfulOneIn   = 20               // devices with a small spool that drops its oldest rows
	sickOneIn        = 10               // devices that send text where others send numbers
	forgetfulSpool   = 12 << 10
	patientSpool     = 4 << 20
)

// rowBytes and commandBytes are what one takes in the data folder, about.
const (
	rowBytes      = 150
	influxBytes   = 40
	commandBytes  = 8 << 10
	diskHeadroom  = 512 << 20
	proveMaxSpool = 64 << 20 // of all devices together, while the hub is away
)

// diskNeeded estimates the most that a proof writes.
func (c *ProveConfig) diskNeeded(influx bool) int64 {
	return c.hubDisk(influx) + int64(c.Rate*c.For.Seconds())*influxBytes + proveMaxSpool
}

// hubDisk estimates what the hub's own folder takes.
func (c *ProveConfig) hubDisk(influx bool) int64 {
	need := int64(diskHeadroom) + int64(c.Commands*c.For.Seconds())*commandBytes
	if !influx {
		need += int64(c.Rate*c.For.Seconds()) * rowBytes
	}
	return need
}
