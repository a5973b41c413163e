package natsd

import (
	"fmt"
	"strconv"
	"strings"
)

// MQTTFault is something that a client of the broker did and the broker does
// not take.
type MQTTFault struct {
	User, ClientID string // as the client has it; "": none, or not known yet
	Reason         string // few words, of a few
	Detail         string
}

// Reasons of faults. What the server has against a client otherwise is
// faultRefused, in the server's words.
const (
	faultTooLarge = "too large"
	faultRights   = "not allowed"
	faultPassword = "wrong user or password"
	faultClients  = "too many clients"
	faultTopic    = "topic with white space"
	faultRefused  = "refused by the broker"
)

// fault tells the owner of the door.
func (m *MQTT) fault(f MQTTFault) {
	if m.cfg.Fault != nil {
		m.cfg.Fault(f)
	}
}

// heard is told of a line of the server's log that is about an MQTT client,
// whichever goroutine of the server writes it.
func (m *MQTT) heard(line string) {
	addr, text := clientLine(line)
	m.mu.Lock()
	c := m.carried[addr]
	m.mu.Unlock()
	if c == nil {
		return
	}
	f := MQTTFault{User: c.user, ClientID: c.clientID, Reason: faultRefused, Detail: text}
	var size, most int
	switch n, _ := fmt.Sscanf(text, "maximum payload exceeded: %d vs %d", &size, &most); {
	case n == 2:
		f.Reason, f.Detail = faultTooLarge, fmt.Sprintf("a message of %d bytes; the hub's own broker takes %d", size, most)
	case strings.Contains(text, "not supported for MQTT topics"):
		f.Reason = faultTopic
		f.Detail = "the hub's own broker has none: it disconnects who publishes to one or has it for a will, and refuses a subscription; give the client another topic, or a broker such as Mosquitto"
	case strings.Contains(text, `Violation - Subject ""`):
		return // a filter with white space, which was told before
	case strings.Contains(text, "Violation"):
		f.Reason = faultRights
	}
	m.fault(f)
}

// clientLine takes a line of the server's log apart: the client's address, and
// what it says, behind the number, the id and the user of the connection.
func clientLine(line string) (addr, text string) {
	addr, rest, _ := strings.Cut(line, clientLineMark)
	_, text, _ = strings.Cut(rest, clientLineGap)
	for {
		name, err := strconv.QuotedPrefix(text)
		more, found := strings.CutPrefix(text[len(name):], clientLineGap)
		if err != nil || !found {
			return addr, text
		}
		text = more
	}
}
