package profile

import "time"

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

// timeOf is the time of a message in Unix ns, 0 where it does not say which
// moment it is; with an error where it cannot be believed.
func (p *tasmota) timeOf(c tasmotaClock, m Message) (ns int64, err error) {
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
	return ns, err
}
