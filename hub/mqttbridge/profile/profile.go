// Package profile knows what legacy gear says on MQTT and what it wants to be
// told: one Profile for each kind of gear, from its own public documentation.
//
// A Profile turns messages into Reports (rows, presence, a description) of
// named gear, and commands into a Plan: what to publish, and how to know the
// answer. It neither connects nor stores, has no clock and no goroutine: the
// bridge around it owns the broker, the buffer and the registry. Gear names
// come from topics alone, never from a payload that could name another
// profile's gear; the bridge looks up (broker, profile, gear) among the
// devices that were allowed, so a payload reaches no other device.
package profile

import (
	"errors"
	"fmt"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// Limits that hold for every profile. What is over them is refused as a
// whole, with a reason.
const (
	MaxPayloadBytes = 1 << 20 // of one message: a list of 150 Zigbee devices has that
	MaxDepth        = 16      // of nested objects and arrays
	MaxGearBytes    = 128     // of a gear's name
	// MaxGear is how many pieces of gear one profile keeps state of (aliases,
	// discovered names); one more is refused.
	MaxGear = 10_000
)

// Message is one MQTT message as it came. Topic and Payload are valid only
// during the call: copy what is kept.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool      // kept by the broker: it may be old
	Received time.Time // when the hub took it
	// Repeated: the broker may have sent it before.
	Repeated bool
	// Early: it came at Received, before what describes it, and is offered
	// again: other messages have come since.
	Early bool
	// Held: it was early once, perhaps before the hub was started, and Note is
	// what the *Early said then.
	Held bool
	Note []byte
}

// again reports whether the message has been decoded before, here or before
// the hub was started.
func (m *Message) again() bool { return m.Early || m.Held }

// Status is what a Report says about presence.
type Status uint8

// Unchanged: the report is a sign of life and nothing more.
const (
	Unchanged Status = iota
	Online
	Offline
)

// Report is what one message says about one piece of gear.
type Report struct {
	// Gear names it within its profile and broker, 1 to MaxGearBytes of
	// printable UTF-8, from the topic: "plug-1", "plant/line-2/press".
	Gear string
	// Rows to be stored; Device and Labels are left empty. A zero Time
	// stands for the time of arrival. Names satisfy wire.CheckColumnName
	// (make them with Name), values are finite.
	Rows []telemetry.Row
	// Seconds: the times of Rows are whole seconds of a clock that tells no
	// more, and of which several messages may be; when they came first tells
	// them apart.
	Seconds bool
	// Status is presence, with the reason for Offline ("last will").
	Status Status
	Reason string
	// NotAlive: the message is no sign of life of the gear (it was retained,
	// or the broker's side speaks).
	NotAlive bool
	Firmware string             // "": unchanged
	Describe *devicev1.Describe // nil: unchanged
	// Awaited: nothing is known of the gear before it has told of itself,
	// which it was asked for.
	Awaited bool
	// Lost are messages that are known to be lost, by the gear's own count,
	// and that no report has told of.
	Lost uint64
	// Publish is what the profile wants to be told in return, as the rebirth
	// request of Sparkplug. The bridge limits the rate.
	Publish []Publish
	// Problem is what was wrong with a part of the message while the rest is
	// good: "field humidity: \"n/a\" is no number". "": nothing.
	Problem string
}

// Publish is one message to gear: QoS 0 or as the bridge decides, never
// retained.
type Publish struct {
	Topic   string
	Payload []byte
	// Unsent is called where it was not published, as a method of the profile
	// would be. nil: nobody minds.
	Unsent func()
}

// Command for one piece of gear.
type Command struct {
	ID   string // of the hub, printable ASCII to 64 bytes
	Name string
	Args map[string]any // decoded JSON with json.Number; never nil
}

// Answer is the gear's word on a command.
type Answer struct {
	Phase   devicev1.CommandPhase // RUNNING, SUCCEEDED, FAILED or REJECTED
	Code    uint32                // google.rpc.Code, 0 for SUCCEEDED
	Message string
	Result  []byte // JSON object; nil: none
}

// Plan is how a command is carried out. The bridge publishes all of Publish
// in order, then offers every message of the profile to Match until it
// returns true with an end, or the command's timeout is over.
type Plan struct {
	Publish []Publish
	// Match tells whether a message is the answer; several commands may wait
	// at once, the oldest is asked first and a message that is taken is
	// offered to no other. nil: this gear cannot answer. The message is
	// decoded for its readings all the same. It is called from the goroutine
	// that calls Decode.
	Match func(m Message) (Answer, bool)
	// Named: the answer names the command, so that neither an older message
	// nor the answer to another command can be taken for it, as one that tells
	// a state can.
	Named bool
	// Turn: commands of the profile with the same one could be ended by each
	// other's answers. Only one of them is under way; the next is planned anew
	// when it has ended. "": all of the gear. Named ones never wait.
	Turn string
}

// Profile is one kind of gear on one broker, with what it remembers of that
// gear (discovered names, aliases). Its methods are called from one goroutine.
type Profile interface {
	// Filters are the topic filters that its messages match, answers to
	// commands included. They stay the same.
	Filters() []string
	// Decode appends to reports what a message says. Several reports may
	// come of one message; none means that it says nothing of interest. On
	// an error (a *Refusal says why) nothing of the message is used, but for
	// an *Early. The rows are good until the next Decode.
	Decode(m Message, reports []Report) ([]Report, error)
	// Command plans a command. Errors: a *Refusal for a name or arguments
	// that the gear does not know; the command ends REJECTED with its text.
	Command(gear string, c Command) (Plan, error)
	// Connected: the broker session has begun or begun again; messages may
	// have been missed. What it returns is published.
	Connected() []Publish
}

// Refusal is why a message or a command is not usable. Reason is one of few
// words for counting ("not JSON", "too deep"); Detail is for people, without
// payloads over 80 bytes.
type Refusal struct {
	Reason string
	Detail string
	// Gear that the message was from, where the topic says so.
	Gear string
}

func (r *Refusal) Error() string {
	if r.Detail == "" {
		return r.Reason
	}
	return r.Reason + ": " + r.Detail
}

// Refuse makes a *Refusal.
func Refuse(reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ReasonOf is the Reason of an error of Decode or Command.
func ReasonOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return "not usable"
}

// Kind is one kind of gear that can be configured.
type Kind struct {
	Name    string // "tasmota"
	Summary string // one line
	// New makes a Profile. settings decodes the profile's settings from the
	// config, strictly, into a struct with yaml tags; it leaves alone what is
	// not set. Errors name the key and say what it takes.
	New func(settings func(into any) error) (Profile, error)
	// Recognise tells whether a message looks like this kind of gear, and
	// the settings (nil: the defaults) under which New's profile decodes it:
	// for `hubctl bridge sample`. The same gear always gives the same
	// settings. nil: the kind cannot be recognised.
	Recognise func(m Message) (settings map[string]any, ok bool)
	// Silence is after how long without a sign of life gear is offline,
	// unless the config says otherwise; 0: never by silence.
	Silence time.Duration
}
