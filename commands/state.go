package commands

import (
	"fmt"
	"slices"
)

// State is how far a command has come. Its zero value is no state.
type State uint8

// The states. A command begins QUEUED; those from Succeeded on are ends.
const (
	Queued    State = iota + 1 // accepted, not sent
	Sent                       // handed to a session; the device has not answered
	Delivered                  // the device's word: received, about to run
	Running                    // the device's word: in progress
	Succeeded                  // the device's word
	Failed                     // the device's word, with a code and a message
	Rejected                   // the device's word: unknown name or bad arguments, nothing was done
	TimedOut                   // no end within the response timeout
	Expired                    // not delivered within its TTL
	Canceled                   // by an operator, by a newer command, or on the device
)

var stateNames = [...]string{
	"", "QUEUED", "SENT", "DELIVERED", "RUNNING",
	"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "EXPIRED", "CANCELED",
}

// States lists all states in their order.
func States() []State {
	return []State{Queued, Sent, Delivered, Running, Succeeded, Failed, Rejected, TimedOut, Expired, Canceled}
}

// String is the name that API, CLI and stored records use.
func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// ParseState is the reverse of String.
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[1:], name); i >= 0 {
		return State(i + 1), nil
	}
	return 0, fmt.Errorf("%.40q is no command state", name)
}

// MarshalText writes the name.
func (s State) MarshalText() ([]byte, error) {
	if s == 0 || int(s) >= len(stateNames) {
		return nil, fmt.Errorf("command state %d has no name", uint8(s))
	}
	return []byte(stateNames[s]), nil
}

// UnmarshalText reads the name.
func (s *State) UnmarshalText(b []byte) error {
	v, err := ParseState(string(b))
	*s = v
	return err
}

// Ended reports whether the state is an end.
func (s State) Ended() bool { return s >= Succeeded }

// Undelivered reports whether the device has not confirmed the command.
func (s State) Undelivered() bool { return s == Queued || s == Sent }

// Party is who moves a command.
type Party uint8

// The hub decides, the device reports.
const (
	ByHub Party = 1 << iota
	ByDevice
)

func (p Party) String() string {
	switch p {
	case ByHub:
		return "hub"
	case ByDevice:
		return "device"
	case ByHub | ByDevice:
		return "hub or device"
	}
	return "nobody"
}

// transitions is the one table of legal moves and of who may make them.
//
// The ends that the hub decides on without the device's word (TIMED_OUT,
// EXPIRED, CANCELED) give way to an end that the device reports later: what
// ran must be known. An end that the device has reported is never changed;
// see Command.Confirmed.
var transitions = map[State]map[State]Party{
	Queued: {
		Sent:     ByHub,
		Expired:  ByHub,
		Canceled: ByHub,
	},
	Sent: {
		Queued:    ByHub, // the session was gone before a byte left
		Sent:      ByHub, // sent again
		Delivered: ByDevice,
		Running:   ByDevice,
		Succeeded: ByDevice,
		Failed:    ByDevice,
		Rejected:  ByDevice,
		TimedOut:  ByHub,
		Expired:   ByHub,
		Canceled:  ByHub | ByDevice,
	},
	Delivered: {
		Running:   ByDevice,
		Succeeded: ByDevice,
		Failed:    ByDevice,
		Rejected:  ByDevice,
		TimedOut:  ByHub,
		Canceled:  ByHub | ByDevice, // by the hub: the device was removed
	},
	Running: {
		Running:   ByDevice, // progress
		Succeeded: ByDevice,
		Failed:    ByDevice,
		Rejected:  ByDevice,
		TimedOut:  ByHub,
		Canceled:  ByHub | ByDevice, // by the hub: the device was removed
	},
	Succeeded: {},
	Failed:    {},
	Rejected:  {},
	TimedOut:  late,
	Expired:   late,
	Canceled:  late,
}

var late = map[State]Party{
	Succeeded: ByDevice,
	Failed:    ByDevice,
	Rejected:  ByDevice,
	Canceled:  ByDevice,
}

// TransitionError says that a command cannot go from one state to another.
type TransitionError struct {
	From, To State
	By       Party
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("a command cannot go from %s to %s by the %s", e.From, e.To, e.By)
}

// CheckTransition returns nil, or a *TransitionError that names both states.
func CheckTransition(from, to State, by Party) error {
	if transitions[from][to]&by != 0 {
		return nil
	}
	return &TransitionError{From: from, To: to, By: by}
}
