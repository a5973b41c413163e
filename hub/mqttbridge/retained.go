package mqttbridge

import (
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// What the hub's own broker retains comes all at once, with each subscription.
// As long as over heldUpAfter messages of a session wait for their
// acknowledgement it takes others of QoS 1 for sent that it has not sent, and
// sends them half a minute later. So where so much has come, the session is
// begun once more without a subscription: what was not acknowledged is then
// sent at once, see natsd.
const heldUpAfter = 256 // half of what natsd lets wait: it knows of more than has come here

// nobodysFilter has the broker answer behind what it has retained.
const nobodysFilter = "$tetherline/nothing"

// awaitRoom waits for room for a message that is retained, and not for long:
// what the broker sends besides waits behind it.
func (i *inbox) awaitRoom(s *link, a *arrival) {
	crowded := func() bool {
		return i.bytes > 0 && i.bytes+a.size() > i.maxBytes && !i.closed && (!s.missed || s.heldUp)
	}
	if !crowded() {
		return
	}
	until := time.Now().Add(i.patience)
	late := time.AfterFunc(i.patience, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.room.Broadcast()
	})
	defer late.Stop()
	for crowded() && time.Now().Before(until) {
		i.signal()
		i.room.Wait()
	}
}

// takeKept takes a message that is retained, or leaves it, and has the session
// begun again with a subscription: then it comes again.
func (i *inbox) takeKept(s *link, a *arrival) {
	switch {
	case i.closed || s.missed && !s.heldUp:
	case i.bytes > 0 && i.bytes+a.bytes > i.maxBytes:
		s.missed, s.heldUp = true, false
	default:
		s.kept++
		i.hold(a)
	}
}

// retainedCame is told when all that is retained has come with a subscription,
// so many messages.
func (i *inbox) retainedCame(s *link, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n > 0 && n+s.most > heldUpAfter && !s.missed {
		s.missed, s.heldUp = true, true
		i.signal()
	}
}

// heldUp reports whether the session is begun again for what the broker has
// held up alone.
func (i *inbox) heldUp(s *link) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return s.heldUp
}

// mark is answered when all has come that is retained; nil: it does not matter.
func (c *connection) mark(s *link) mqtt.Token {
	if !s.conn.owned {
		return nil
	}
	return s.client.Unsubscribe(nobodysFilter)
}

func done(token mqtt.Token) <-chan struct{} {
	if token == nil {
		return nil
	}
	return token.Done()
}
