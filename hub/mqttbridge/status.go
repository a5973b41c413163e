package mqttbridge

import (
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// BrokerStatus is how one broker does. Its counters begin with the hub's
// start.
type BrokerStatus struct {
	Name      string
	URL       string // without a password
	Connected bool
	Since     time.Time // of the present state
	Error     string    // why it is not connected; "": it is
	Profiles  []ProfileStatus

	Messages        uint64 // received
	Rows            uint64 // durable, of those
	Refused         uint64 // messages that were not usable
	UnknownGear     uint64 // messages of gear that is not allowed
	LostQoS0        uint64 // QoS 0 messages dropped for want of room
	PendingMessages uint64 // received, not durable yet
	PendingBytes    uint64 // of those
	Published       uint64 // messages of the hub, commands among them

	Problems []Problem // the latest of each reason and profile, newest first
}

// ProfileStatus is how one profile of a broker does.
type ProfileStatus struct {
	Name        string
	Kind        string
	GearAllowed uint32
	GearUnknown uint32 // of those that are remembered
	Messages    uint64
}

// Problem is what was wrong, the last time it was.
type Problem struct {
	Time    time.Time
	Reason  string // few words, for counting
	Count   uint64
	Topic   string // "" where it is about none
	Gear    string // ""
	Profile string // "": the broker as a whole
	Detail  string
}

// SeenGear is gear that was heard, allowed or not, or was allowed before.
type SeenGear struct {
	Gear       registry.Gear
	Kind       string    // of its profile
	DeviceID   string    // "": not allowed
	FirstHeard time.Time // since the hub started; zero: not yet
	LastHeard  time.Time
	Messages   uint64
	Problem    string // why it cannot be allowed by itself, or the last refusal
}
