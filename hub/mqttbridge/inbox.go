package mqttbridge

import (
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// arrivalBytes is what a message takes in memory besides topic and payload.
const arrivalBytes = 512

// arrival is one message on its way from the broker to the buffer.
type arrival struct {
	// Set when it comes.
	session  *link
	topic    string
	payload  []byte
	id       uint16 // packet identifier; 0 with QoS 0
	dup      bool
	retained bool
	kept     bool // retained by the hub's own broker, which has its acknowledgement
	received time.Time
	paho     mqtt.Message // of QoS 2, which the client acknowledges; nil: it is acknowledged here
	bytes    int          // that it counts for

	// The worker's, from then on.
	hash    uint64        // in the memory of redeliveries; 0: not there
	first   int64         // when it came first; 0: not asked yet
	stamped int64         // rows that have got that time, or a little more
	entries []entry       // that wait to be appended
	entry   [1]entry      // room for the first of those
	held    []held        // reports of gear that is being allowed
	last    uint64        // seq of the last entry that was appended; 0: none was
	rows    uint64        // appended
	early   *earlyMessage // it was held, and is offered again; nil: it comes from the broker
	waits   bool          // of early: in vain
	of      *gear         // of early: whose rows stamped counts
}

func (a *arrival) size() int { return len(a.topic) + len(a.payload) + arrivalBytes }

// inbox is what waits for a broker's worker. All methods may run at once and
// none waits but put.
type inbox struct {
	maxBytes int
	wake     chan struct{} // has room for one word
	counted  []string      // filters of messages that gear counts itself
	own      string        // topic of the hub's messages to itself: nobody misses them
	patience time.Duration // of put, with what is retained

	mu       sync.Mutex
	room     sync.Cond // there may be some
	messages []*arrival
	calls    []func()
	// bytes and count are of messages that are not settled, wherever they are.
	bytes, count int
	most         int    // count at its highest, in this session
	peak         int    // and since takePeak
	lost         uint64 // QoS 0 messages without room
	lostCounted  uint64 // those among them that match counted
	closed       bool   // no message is taken any more
}

func (i *inbox) init(maxBytes int) {
	i.maxBytes = maxBytes
	i.wake = make(chan struct{}, 1)
	i.room.L = &i.mu
}

// put takes messages of a session, or leaves them. What is left of QoS 0 is
// lost. What is left of QoS 1 the broker has to send again, and what comes
// after it on that session too, so that the order stays: the session is to be
// reset. full: the broker may wait for an acknowledgement before it sends the
// next message. It waits for room for what the hub's own broker has retained.
func (i *inbox) put(s *link, batch []*arrival) (full bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range batch {
		if a.kept {
			i.awaitRoom(s, a)
		}
		i.take(s, a)
	}
	i.most, i.peak = max(i.most, i.count), max(i.peak, i.count)
	if len(i.messages) > 0 {
		i.signal()
	}
	return i.count >= window(i.most)
}

// roomFor a message: those of QoS 0 leave a quarter to the others. Else a flood
// of them, which costs its sender nothing, would have the session begun again
// for others' messages of QoS 1, and what comes at QoS 0 meanwhile is lost
// without a count.
func (i *inbox) roomFor(a *arrival) int {
	if a.id == 0 {
		return i.maxBytes - i.maxBytes/4
	}
	return i.maxBytes
}

func (i *inbox) take(s *link, a *arrival) {
	a.session, a.bytes = s, a.size()
	switch {
	case a.kept:
		i.takeKept(s, a)
		return
	case a.id != 0 && (s.missed || s.unsettled.has(a.id)):
		return // unsettled: sent again, though the first is still on its way
	case i.closed || i.bytes+a.bytes > i.roomFor(a):
		if a.id == 0 && a.topic != i.own {
			i.lost++
			if matchesAny(i.counted, a.topic) {
				i.lostCounted++
			}
		} else if a.id != 0 {
			s.missed = true
		}
		return
	}
	if a.id != 0 {
		s.unsettled.add(a.id)
		s.most = max(s.most, s.unsettled.n)
	}
	i.hold(a)
}

func (i *inbox) hold(a *arrival) {
	i.bytes += a.bytes
	i.count++
	i.messages = append(i.messages, a)
}

// post has the worker call f soon, in the order of the posts.
func (i *inbox) post(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls = append(i.calls, f)
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// takeCalls empties the calls.
func (i *inbox) takeCalls() []func() {
	i.mu.Lock()
	defer i.mu.Unlock()
	calls := i.calls
	i.calls = nil
	return calls
}

// takeMessages takes the first messages, up to max.
func (i *inbox) takeMessages(into []*arrival, max int) []*arrival {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := min(max, len(i.messages))
	into = append(into, i.messages[:n]...)
	clear(i.messages[:n])
	if i.messages = i.messages[n:]; len(i.messages) == 0 {
		i.messages = nil
	}
	return into
}

// settled gives back the room of messages that are done with.
func (i *inbox) settled(done []*arrival) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range done {
		if a.early != nil {
			continue
		}
		i.bytes -= a.bytes
		i.count--
		if a.id != 0 {
			a.session.unsettled.remove(a.id)
		}
		if a.kept {
			a.session.kept--
		}
	}
	i.room.Broadcast()
}

// close takes no more messages.
func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.room.Broadcast()
}

// missed reports whether the session has left messages and all that it took
// are settled: then the broker sends just those again.
func (i *inbox) missed(s *link) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return s.missed && !i.closed && s.unsettled.n == 0 && s.kept == 0
}

// left reports whether messages of the session were left for want of room.
func (i *inbox) left(s *link) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return s.missed && !s.heldUp && !i.closed
}

// full reports whether so many messages are not settled, wherever they are,
// that the broker may wait for an acknowledgement before it sends the next.
func (i *inbox) full() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count >= window(i.most)
}

// fills reports whether full would be true with so many messages more.
func (i *inbox) fills(messages int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count+messages >= window(max(i.most, i.count+messages))
}

// begun: it is another session, with what the broker sends ahead in it.
func (i *inbox) begun() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.most = i.count
}

// takePeak is the most messages that were not settled since it was called.
func (i *inbox) takePeak() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	peak := i.peak
	i.peak = i.count
	return peak
}

// leastWindow is below what a broker sends ahead of acknowledgements:
// Mosquitto's own limit is 20 messages.
const leastWindow = 15

// window is near what a broker sends ahead, where the most that it ever did is
// known.
func window(most int) int { return max(leastWindow, most*3/4) }

// oldest is when the first message was received that was not taken; zero:
// there is none.
func (i *inbox) oldest() (received time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.messages) > 0 {
		received = i.messages[0].received
	}
	return received
}

// figures are for the status.
func (i *inbox) figures() (count, bytes int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count, i.bytes
}

// allLost are the messages of QoS 0 that are known to be lost; byGear are those
// that gear misses in its own count, which has what was dropped here as well.
func (i *inbox) allLost(byGear uint64) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lost - i.lostCounted + max(i.lostCounted, byGear)
}
