// Package registry is the hub's memory of who may connect: devices with their
// labels and credential generations, operators with their roles, and the
// audit log of what operators changed. It keeps them in JetStream, and a copy
// of the devices and operators in memory, so that a look-up costs no round
// trip and every node learns of a change at once.
package registry

import (
	"errors"
	"time"
)

// Errors of the registry, for callers to decide on.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("was changed by somebody else at the same time; try again")
	// ErrInvalid wraps what is wrong with the caller's input.
	ErrInvalid = errors.New("invalid")
	// ErrClosed says that the registry has been closed.
	ErrClosed = errors.New("registry is closed")
)

// Kinds of devices.
const (
	KindDevice = "device" // connects by the device protocol
	KindMQTT   = "mqtt"   // legacy gear behind the MQTT bridge
)

// Device is what the hub knows of a device. It holds no secret: those come
// from the master key, by id and generation.
type Device struct {
	ID       string            `json:"id"`
	Kind     string            `json:"kind"`
	Labels   map[string]string `json:"labels,omitempty"`
	Note     string            `json:"note,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
	// Whose doing that is, and since when; empty where it is not known.
	DisabledBy    string    `json:"disabled_by,omitempty"`
	DisabledSince time.Time `json:"disabled_since,omitzero"`
	AllowUnbound  bool      `json:"allow_unbound,omitempty"` // may connect without channel binding
	KeyID         string    `json:"key_id"`                  // of the master key its secrets come from
	Generation    uint32    `json:"generation"`              // of the newest credential, from 1
	// Retiring is the newest of the older generations that still work; nil:
	// there is none.
	Retiring *Retiring `json:"retiring,omitempty"`
	// Older are those before Retiring, newest first: a device that was away
	// while its credential was rotated more than once holds one of them.
	Older   []Retiring `json:"older,omitempty"`
	Created time.Time  `json:"created"`
	// Gear says which legacy gear behind the MQTT bridge this is; nil unless
	// Kind is KindMQTT.
	Gear *Gear `json:"gear,omitempty"`
	// Describe is the device's own Describe message, encoded; nil: none yet.
	Describe []byte `json:"describe,omitempty"`

	// Revision grows with every change; set by the registry.
	Revision uint64 `json:"-"`
}

// Gear is a piece of legacy gear, as the MQTT bridge knows it.
type Gear struct {
	Broker  string `json:"broker"`  // as the config names it
	Profile string `json:"profile"` // as the config names it
	Name    string `json:"name"`    // within profile and broker
}

// Retiring is a superseded generation in its period of grace.
type Retiring struct {
	Generation uint32    `json:"generation"`
	Until      time.Time `json:"until"`
	KeyID      string    `json:"key_id"` // of the master key its secret comes from
}

// Presence is where a device is, or was last.
type Presence struct {
	Online     bool      `json:"online"`
	Since      time.Time `json:"since"`     // of the present state
	LastSeen   time.Time `json:"last_seen"` // last word from the device
	Reason     string    `json:"reason,omitempty"`
	RemoteAddr string    `json:"remote_addr,omitempty"`
	Firmware   string    `json:"firmware,omitempty"`
	Epoch      uint64    `json:"epoch"` // of the session, over all nodes
	Node       string    `json:"node,omitempty"`
	Dropped    uint64    `json:"dropped_rows,omitempty"` // rows the device says it had to drop
}
