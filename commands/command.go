package commands

import (
	"fmt"
	"time"
)

// Limits and defaults.
const (
	MaxPayloadBytes = 16 << 10 // payload and result
	MaxMessageBytes = 1 << 10  // the device's words on its answer
	MaxNameBytes    = 64
	MaxIDBytes      = 64
	DefaultTTL      = time.Hour
	MinTTL          = time.Second
	MaxTTL          = 30 * 24 * time.Hour
	DefaultTimeout  = 30 * time.Second
	MinTimeout      = 100 * time.Millisecond
	MaxTimeout      = 24 * time.Hour
	// DefaultMaxPending is the commands of one device that have not ended.
	DefaultMaxPending = 50
	// MaxEvents is the events kept of one command. Beyond it progress reports
	// and repeated sendings give way, the oldest first.
	MaxEvents = 128
)

// PayloadAdvice is for who has a larger payload than MaxPayloadBytes.
const PayloadAdvice = "a device that needs more has to fetch it from where the payload says"

// Replay says what becomes of a command whose delivery is unknown.
type Replay uint8

const (
	// UntilDelivered is sent again on every connection until the device says
	// DELIVERED. The device's memory of executed ids makes it at most once.
	UntilDelivered Replay = iota
	// Once is never sent again after SENT.
	Once
	// LatestWins is as UntilDelivered, and a newer command of the same name
	// for the device takes the place of those that are not delivered.
	LatestWins
)

var replayNames = [...]string{"until-delivered", "once", "latest-wins"}

func (r Replay) String() string {
	if int(r) >= len(replayNames) {
		return fmt.Sprintf("Replay(%d)", uint8(r))
	}
	return replayNames[r]
}

// MarshalText writes the name.
func (r Replay) MarshalText() ([]byte, error) {
	if int(r) >= len(replayNames) {
		return nil, fmt.Errorf("replay class %d has no name", uint8(r))
	}
	return []byte(replayNames[r]), nil
}

// UnmarshalText reads the name.
func (r *Replay) UnmarshalText(b []byte) error {
	for i, name := range replayNames {
		if name == string(b) {
			*r = Replay(i)
			return nil
		}
	}
	return fmt.Errorf("%.40q is no replay class (until-delivered, once, latest-wins)", b)
}

// Payload is the arguments of a command, or its result. At most one of the
// fields is set; both empty: nothing.
type Payload struct {
	JSON     string `json:"json,omitempty"`     // arguments are one object; a result is any value
	Protobuf []byte `json:"protobuf,omitempty"` // opaque to the hub
}

// Spec is what the device is asked to do, and on what terms.
type Spec struct {
	Name    string        `json:"name"`
	Payload Payload       `json:"payload,omitzero"` // nothing stands for the JSON object {}
	TTL     time.Duration `json:"ttl"`              // MinTTL to MaxTTL to be delivered in; 0: DefaultTTL
	Timeout time.Duration `json:"timeout"`          // MinTimeout to MaxTimeout from DELIVERED to the end; 0: DefaultTimeout
	Replay  Replay        `json:"replay"`
}

// Command is one command to one device, as it stands. A Command that was
// handed out is never changed.
type Command struct {
	// Fixed when it is accepted.
	ID       string `json:"id"`
	Device   string `json:"device"`
	Spec     Spec   `json:"spec"`
	Digest   string `json:"digest"` // of device and spec: what an idempotency key stands for
	Group    string `json:"group,omitempty"`
	Operator string `json:"operator,omitempty"`
	// Registration tells the device from a later one of its name, as
	// Devices.Registration has it; "": not recorded.
	Registration string    `json:"registration,omitempty"`
	Created      time.Time `json:"created"`
	Expires      time.Time `json:"expires"` // unless delivered by then

	State           State     `json:"state"`
	Reason          string    `json:"reason"` // of the state, for people
	Updated         time.Time `json:"updated"`
	Attempts        uint32    `json:"attempts,omitempty"` // how often it was sent
	SentNode        string    `json:"sent_node,omitempty"`
	SentEpoch       uint64    `json:"sent_epoch,omitempty"`
	SentAt          time.Time `json:"sent_at,omitzero"`
	DeliveredAt     time.Time `json:"delivered_at,omitzero"` // when the device's first word came
	CancelRequested bool      `json:"cancel_requested,omitempty"`
	LateCancel      bool      `json:"late_cancel,omitempty"` // asked for after the hub had ended it
	Progress        uint32    `json:"progress,omitempty"`    // 0 to 100
	Ended           time.Time `json:"ended,omitzero"`

	// The device's answer. Confirmed: the end is the device's own word, and
	// final. An end without it gives way to a later word of the device.
	Confirmed bool    `json:"confirmed,omitempty"`
	Code      uint32  `json:"code,omitempty"`    // google.rpc.Code, 1 to 16, of FAILED and REJECTED; else 0
	NoCode    bool    `json:"no_code,omitempty"` // the device gave none: Code is 2, UNKNOWN
	Message   string  `json:"message,omitempty"`
	Result    Payload `json:"result,omitzero"`

	Events []Event `json:"events"`           // oldest first
	Elided int     `json:"elided,omitempty"` // events that had to give way

	// Order grows with acceptance over all nodes; 0 in a record that was not
	// changed since: its Revision is its order.
	Order uint64 `json:"order,omitempty"`
	// Revision of the stored record, set by the Store.
	Revision uint64 `json:"-"`
}

// Event is one step in the story of a command.
type Event struct {
	Time     time.Time `json:"time"`
	State    State     `json:"state"`
	Reason   string    `json:"reason,omitempty"` // what happened, in words
	Node     string    `json:"node,omitempty"`
	Epoch    uint64    `json:"epoch,omitempty"` // of the session; 0: none took part
	Attempt  uint32    `json:"attempt,omitempty"`
	Progress uint32    `json:"progress,omitempty"`
	Code     uint32    `json:"code,omitempty"`
	NoCode   bool      `json:"no_code,omitempty"`
	Message  string    `json:"message,omitempty"` // the device's words
}

// order is the place of the command in its device's queue.
func (c *Command) order() uint64 {
	if c.Order != 0 {
		return c.Order
	}
	return c.Revision
}

// clone is a copy whose events can be appended to without harm to c's.
func (c *Command) clone() *Command {
	d := *c
	d.Order = c.order()
	d.Events = c.Events[:len(c.Events):len(c.Events)]
	return &d
}

// record appends an event. In a story that has become too long, progress
// reports and repeated sendings give way, the oldest first.
func (c *Command) record(e Event) {
	c.Updated = e.Time
	if len(c.Events) >= MaxEvents {
		drop := 1
		for i := 1; i+1 < len(c.Events); i++ {
			if c.Events[i].State == c.Events[i+1].State {
				drop = i
				break
			}
		}
		kept := make([]Event, 0, len(c.Events))
		c.Events = append(append(kept, c.Events[:drop]...), c.Events[drop+1:]...)
		c.Elided++
	}
	c.Events = append(c.Events, e)
}
