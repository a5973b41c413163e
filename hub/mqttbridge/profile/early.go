package profile

import (
	"maps"
	"slices"
	"time"
)

// Early is the error of Decode for a message that says nothing before what
// describes it has come. A broker that has kept messages for the hub sends
// them at once when the hub is back, and what is retained only after that:
// readings would be lost that were published at QoS 1. The reports that come
// with it are used.
//
// The bridge keeps such a message for as long as what describes it can come,
// and offers it again, marked Early, when Described names its key.
type Early struct {
	Gear string // "": not known yet
	Key  string // the same for all messages that wait for the same
	// Shared: other gear may be described later as having a part in the
	// message. It is offered again then, and has the same readings, and more.
	Shared bool
	// Refusal is what becomes of it where nothing describes it; nil: it is of
	// no gear, as far as anybody knows.
	Refusal error
	// Wait is for how long what describes it can come, as the gear has to be
	// asked for it; 0: it is retained, and comes with the session or never.
	Wait time.Duration
	// Note comes with the message when it is offered again, as Message.Note;
	// that of the first time counts.
	Note []byte
}

func (e *Early) Error() string {
	if e.Refusal != nil {
		return e.Refusal.Error()
	}
	return "nothing describes it"
}

// Describing is a Profile whose Decode returns *Early.
type Describing interface {
	Profile
	// Described are keys of which messages have told more since the last
	// call.
	Described() []string
}

// descriptions collects keys. The zero value is ready.
type descriptions struct{ keys map[string]struct{} }

func (d *descriptions) note(key string) {
	if d.keys == nil {
		d.keys = make(map[string]struct{})
	}
	d.keys[key] = struct{}{}
}

// Described implements Describing.
func (d *descriptions) Described() []string {
	if len(d.keys) == 0 {
		return nil
	}
	keys := slices.Collect(maps.Keys(d.keys))
	clear(d.keys)
	return keys
}
