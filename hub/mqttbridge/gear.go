package mqttbridge

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/hub/registry"
	"github.com/tetherline/tetherline/hub/session"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// gear is one piece of legacy gear that is allowed, or is being allowed. The
// broker's mu guards it.
type gear struct {
	bound *bound
	name  string

	device   *registry.Device // nil: being allowed
	labels   string           // of device, as telemetry.Entry wants them
	allowing bool             // about to become a device
	becomes  enrolment        // while allowing
	again    bool             // the registry could not be written: to be tried again
	held     int              // reports that wait for that

	fields   wire.FieldSet
	last     int64 // time of the newest row that was stamped with its arrival
	late     int64 // and of the last that came long after the second that it tells
	told     ownTimes
	first    time.Time
	heard    time.Time
	messages uint64
	problem  string
	toldAt   time.Time         // when the profile last told it something by itself
	untold   []profile.Publish // what it is to be told when the session counts

	peer     *peer // nil: offline
	firmware string
	early    bool // it was alive before the session with the broker counted
	// When it was heard before it went offline for no reason of its own; zero:
	// it does not come back by itself. See returning.go.
	back      time.Time
	announces bool      // it has told that it is online
	notUntil  time.Time // not online before: another hub has just taken over, or this one is drained

	description  []byte // to be saved; nil: nothing is
	saving       []byte // handed to the registry last; nil: nothing was
	describeNext time.Time
}

func (g *gear) noteHeard(at time.Time) {
	if g.first.IsZero() {
		g.first = at
	}
	g.heard = at
	g.messages++
	if g.peer != nil {
		g.peer.heard.Store(at.UnixNano())
	}
}

// peer stands for gear that is online, from one coming to the next going. It
// implements live.Peer.
type peer struct {
	broker   *broker
	gear     *gear
	device   string
	firmware string // as it was told to the table
	entered  time.Time
	epoch    uint64 // the worker's
	heard    atomic.Int64
	over     atomic.Bool
}

var errOver = errors.New("the gear is offline")

// Send implements live.Peer: commands and cancellations go to the worker; of
// the rest gear is not told.
func (p *peer) Send(f *devicev1.HubFrame) error {
	if p.over.Load() {
		return errOver
	}
	switch {
	case f.GetCommand() != nil:
		p.broker.inbox.post(func() { p.broker.command(p, f.GetCommand()) })
	case f.GetCommandCancel() != nil:
		p.broker.inbox.post(func() { p.broker.cancel(p, f.GetCommandCancel().GetId()) })
	}
	return nil
}

// Stop implements live.Peer.
func (p *peer) Stop(code session.CloseCode, _ string) {
	p.broker.inbox.post(func() { p.broker.stopped(p, code) })
}

// LastHeard implements live.Peer.
func (p *peer) LastHeard() time.Time { return time.Unix(0, p.heard.Load()) }
