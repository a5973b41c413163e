package mqttbridge

import "time"

// Gathering is what makes a message cheap: one wake-up, one chunk of the
// buffer and one fsync for many of them. After a pause nothing waits; in a
// steady flow what is decoded waits up to gatherTime for company before it is
// appended, and so do acknowledgements. The time of arrival is taken before.
const (
	gatherTime  = 20 * time.Millisecond
	gatherQuiet = 6 * time.Millisecond // longer than the reader gathers
	gatherBytes = 128 << 10            // half a chunk of the buffer
	// leastWindow is below what a broker sends ahead of acknowledgements:
	// Mosquitto's own limit is 20 messages.
	leastWindow = 15
)

// gather decides when what is decoded is appended. It is the worker's.
type gather struct {
	appended time.Time // when something was last
	heard    time.Time // when the last message was taken
	most     int       // messages that were unsettled at once, in this session
	hurry    bool      // the end is near
}

// enough reports whether what waits has waited enough. unsettled is how many
// messages the broker has sent without an acknowledgement: near the most that
// it ever has, it may wait for one before it sends the next.
func (g *gather) enough(now time.Time, unsettled, bytes int) bool {
	g.most = max(g.most, unsettled)
	return g.hurry || now.Sub(g.appended) >= gatherTime || now.Sub(g.heard) >= gatherQuiet ||
		bytes >= gatherBytes || unsettled >= max(leastWindow, g.most*3/4)
}

// wait is how long until enough holds by the clock alone.
func (g *gather) wait(now time.Time) time.Duration {
	return min(gatherTime-now.Sub(g.appended), gatherQuiet-now.Sub(g.heard))
}
