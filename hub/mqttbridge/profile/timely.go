package profile

import (
	"fmt"
	"time"
)

// Timely is a Profile to which time alone tells something: that what gear was
// to say has not come.
type Timely interface {
	Profile
	// Passed is called about once a second, while all messages that have come
	// are decoded. It appends what is known now, without rows: neither a sign
	// of life nor a word of the gear.
	Passed(now time.Time, reports []Report) []Report
}

// Passed implements Timely: what nodes miss in their count, and has not come
// within reorderTime, is lost, though they say no more.
func (p *sparkplug) Passed(now time.Time, reports []Report) []Report {
	for gear, n := range p.nodes {
		lost := n.count.lost(now, false)
		if lost == 0 {
			continue
		}
		report := Report{Gear: gear, NotAlive: true, Lost: lost,
			Problem: fmt.Sprintf("%d messages are missing in its count (seq), and have not come for %v: they are lost", lost, reorderTime)}
		if n.doubted {
			report.Problem += "; nor has the birth that was asked for"
			report.Publish = n.rebirth(now)
		}
		reports = append(reports, report)
	}
	return reports
}
