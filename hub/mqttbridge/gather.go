package mqttbridge

import "time"

// Gathering is what makes a message cheap: one wake-up, one chunk of the
// buffer and one fsync for many of them. After a pause nothing waits; in a
// steady flow what is decoded waits up to gatherTime for company before it is
// appended, and so do acknowledgements. The time of arrival is taken before.
const (
	gatherTime  = 45 * time.Millisecond // less than the reader holds and looks once more
	gatherQuiet = 15 * time.Millisecond // longer than the reader gathers
	gatherBytes = 128 << 10             // half a chunk of the buffer
)

// gather decides when what is decoded is appended. It is the worker's.
type gather struct {
	appended time.Time // when something was last
	heard    time.Time // when the last message was taken
	hurry    bool      // the end is near
}

// enough reports whether what waits has waited enough. full: the broker may
// wait for acknowledgements. more: the next message waits to be decoded.
func (g *gather) enough(now time.Time, more, full bool, bytes int) bool {
	return g.hurry || full || bytes >= gatherBytes ||
		!more && (now.Sub(g.appended) >= gatherTime || now.Sub(g.heard) >= gatherQuiet)
}

// wait is how long until enough holds by the clock alone.
func (g *gather) wait(now time.Time) time.Duration {
	return min(gatherTime-now.Sub(g.appended), gatherQuiet-now.Sub(g.heard))
}
