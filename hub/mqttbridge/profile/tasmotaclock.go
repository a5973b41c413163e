package profile

import (
	"hash/maphash"
	"slices"
	"time"
)

// tasmotaClock is what a message says of the time. By its command Time and
// its SetOption52 (tasmota.github.io/docs/Commands; CmndTime and
// ResponseGetTime in github.com/arendst/Tasmota) that is one of
//
//	"Time":"2019-09-04T13:08:48"                       Time 1, from the factory: local
//	"Time":"2019-09-04T13:08:48","Epoch":1567595328    Time 2: and Unix seconds
//	"Time":1567595328                                  Time 3: Unix seconds alone
//	"Time":"2019-09-04T13:08:48.250"                   Time 4: local, with milliseconds
//	"Time":"2019-09-04T13:08:48+02:00"                 SetOption52 1: with the offset
type tasmotaClock struct{ time, epoch Leaf }

// timeOf is the time of a message of one piece of gear in Unix ns, 0 where it
// does not say which moment it is; with an error where it cannot be believed.
// field is the last level of the message's topic.
func (p *tasmota) timeOf(gear, field string, c tasmotaClock, m Message) (ns int64, err error) {
	unix := timeField{unit: int64(time.Second)}
	local := timeField{layout: "2006-01-02T15:04:05", zone: p.zone}
	switch {
	case c.epoch.number != nil:
		ns, err = unix.of(c.epoch, m.Received)
	case c.time.number != nil:
		ns, err = unix.of(c.time, m.Received)
	case c.time.Path == "":
	default:
		zoned, malformed := time.Parse(time.RFC3339, c.time.text())
		if malformed == nil {
			ns, err = checkTime(zoned.UnixNano(), m.Received)
		} else if p.zone != nil {
			ns, err = local.of(c.time, m.Received)
		}
	}
	if ns == 0 || err != nil || ns%int64(time.Second) != 0 {
		return ns, err
	}
	return p.described.of(gear).tell(tasmotaTeller(field), ns, maphash.Bytes(p.seed, m.Payload)), nil
}

// tasmotaTeller joins the topics that tell the same values.
func tasmotaTeller(field string) string {
	switch field {
	case "STATUS8", "STATUS10":
		return "SENSOR"
	case "STATUS11":
		return "STATE"
	}
	return field
}

// tasmotaSecond is the last second that was told, with the messages of it.
type tasmotaSecond struct {
	teller string
	ns     int64
	hashes []uint64
}

// Bounds of what is remembered of one piece of gear.
const (
	maxTasmotaTellers = 8
	maxTasmotaSecond  = 64 // messages of one second; more get the time of arrival
)

// tell is the time of a message that tells a whole second. Two messages of one
// second, as a switch that goes on and off makes them, would be one row of
// which only the last is left: each further one is a nanosecond later. The
// same message told again, as the broker does, has the same time again.
func (g *tasmotaGear) tell(teller string, ns int64, hash uint64) int64 {
	i := slices.IndexFunc(g.told, func(s tasmotaSecond) bool { return s.teller == teller })
	if i < 0 {
		if len(g.told) == maxTasmotaTellers {
			g.told = slices.Delete(g.told, 0, 1)
		}
		i = len(g.told)
		g.told = append(g.told, tasmotaSecond{teller: teller})
	}
	s := &g.told[i]
	if s.ns != ns {
		s.ns, s.hashes = ns, s.hashes[:0]
	}
	n := slices.Index(s.hashes, hash)
	if n < 0 {
		if n = len(s.hashes); n == maxTasmotaSecond {
			return 0
		}
		s.hashes = append(s.hashes, hash)
	}
	return ns + int64(n)
}
