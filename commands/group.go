package commands

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// GroupState is how far a group command has come.
type GroupState string

// The states of a group. It is running, or it has decided to issue no more
// for one of three causes; it ends when the last issued command has ended.
const (
	GroupRunning  GroupState = "RUNNING"
	GroupDone     GroupState = "DONE"     // everything was issued and has ended
	GroupStopped  GroupState = "STOPPED"  // too large a share has failed, or the rest may not be issued any more
	GroupCanceled GroupState = "CANCELED" // by an operator
)

// Limits of groups.
const (
	MaxGroupDevices = 100_000
	MaxGroupRate    = 10_000 // commands per second
	// MaxGroupIssue is how long issuing may take at the rate asked for.
	MaxGroupIssue = 7 * 24 * time.Hour
	// GroupStopRate is the rate of a group that is to stop after failures and
	// has none of its own.
	GroupStopRate = 10
	// GroupStopFloor is the ended commands that a share of failures is
	// counted of at least.
	GroupStopFloor = 10
	// MaxGroupRefusals is the members that a group names of those it could
	// not issue a command to.
	MaxGroupRefusals = 100
)

// GroupRequest asks for one command for each device that matches.
type GroupRequest struct {
	Selector string // not empty
	Spec     Spec
	Key      string // as in Request
	Operator string
	// OperatorID tells the operator from a later one of that name; "": not
	// known.
	OperatorID string
	// Rate is commands issued per second, to MaxGroupRate; 0: no limit, or
	// GroupStopRate with a StopAfterFailureShare, which would otherwise come
	// when everything has been issued.
	Rate float64
	// StopAfterFailureShare issues no more once that share of the ended
	// commands has failed, counted of at least GroupStopFloor (or of all, if
	// fewer), so that one early failure is not everything; 0: never.
	StopAfterFailureShare float64
	MaxDevices            int // refuse when more match; 0: MaxGroupDevices
	// Allow narrows the selection to devices that the operator may reach;
	// nil: all.
	Allow func(device string) bool
}

// Group is the parent of the commands of one group request.
type Group struct {
	ID       string `json:"id"`
	Selector string `json:"selector"`
	Spec     Spec   `json:"spec"`
	Digest   string `json:"digest"`
	Operator string `json:"operator,omitempty"`
	// OperatorID as in GroupRequest.
	OperatorID string    `json:"operator_id,omitempty"`
	Rate       float64   `json:"rate,omitempty"`
	StopAt     float64   `json:"stop_at,omitempty"` // StopAfterFailureShare
	Created    time.Time `json:"created"`
	Node       string    `json:"node,omitempty"` // that has accepted it
	Total      int       `json:"total"`          // devices that matched when it was accepted

	State   GroupState `json:"state"`
	Reason  string     `json:"reason"`
	Ended   time.Time  `json:"ended,omitzero"` // when the last issued command had ended
	Issued  int        `json:"issued"`
	Refused int        `json:"refused"` // could not be issued: disabled, removed, too many pending
	// Refusals names the first MaxGroupRefusals of these, in the order of the
	// members.
	Refusals []Refusal     `json:"refusals,omitempty"`
	ByState  map[State]int `json:"by_state"` // of the issued ones

	// Seen is, of a group that has ended, the revision up to which the ends of
	// its commands are in ByState. What has changed since is counted by the
	// node that has recorded it.
	Seen uint64 `json:"seen,omitempty"`

	// Next member to be issued; those before were issued or refused.
	Next int `json:"next"`
	// Reserved is how many of the first members may have been issued: it is
	// stored before they are. 0: of a hub that did not record it; all may.
	Reserved int `json:"reserved,omitempty"`
	// Ahead are those from Next on that were issued, while the store had no
	// room for one before them.
	Ahead []int `json:"ahead,omitempty"`
	// Runner issues the commands while its lease lasts.
	Runner string    `json:"runner,omitempty"`
	Lease  time.Time `json:"lease,omitzero"`

	// Members is the Store's: where it keeps them.
	Members  string `json:"members"`
	Revision uint64 `json:"-"`
}

// Refusal is a member of a group that gets no command.
type Refusal struct {
	Device string `json:"device"`
	Reason string `json:"reason"` // "is disabled", for people
}

func (g *Group) clone() *Group {
	c := *g
	c.ByState = maps.Clone(g.ByState)
	c.Refusals = g.Refusals[:len(g.Refusals):len(g.Refusals)]
	c.Ahead = slices.Clone(g.Ahead)
	return &c
}

// refuse counts members that get no command, and names what it has room for.
func (g *Group) refuse(list []Refusal) {
	g.Refused += len(list)
	g.Refusals = append(g.Refusals, list[:min(len(list), max(0, MaxGroupRefusals-len(g.Refusals)))]...)
}

// ended counts the issued commands that have ended, and those that failed.
func (g *Group) ended() (ended, failed int) {
	for s, n := range g.ByState {
		if s.Ended() {
			ended += n
		}
		switch s {
		case Failed, Rejected, TimedOut, Expired:
			failed += n
		}
	}
	return ended, failed
}

// tooManyFailed reports whether the group must stop, and says why.
func (g *Group) tooManyFailed() (string, bool) {
	ended, failed := g.ended()
	if g.StopAt <= 0 || failed == 0 {
		return "", false
	}
	of := max(ended, min(GroupStopFloor, g.Total))
	if float64(failed)/float64(of) < g.StopAt {
		return "", false
	}
	counted := ""
	if of > ended {
		counted = fmt.Sprintf(", which counts as %d of %d", failed, of)
	}
	return fmt.Sprintf("stopped: %d of %d ended commands failed%s; the limit is %.3g %%; %d devices were left out",
		failed, ended, counted, 100*g.StopAt, g.left()), true
}

// left is how many members have neither got a command nor been refused one.
func (g *Group) left() int { return max(0, g.Total-g.Next-len(g.Ahead)) }

// childID is the id of a group's command to a device: the same whenever the
// group is issued again, so that no device gets two.
func childID(group, device string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	if len(group)+1+22 > MaxIDBytes {
		group = "g" + hash(group)
	}
	return group + "." + hash(group+"\x00"+device)
}

func (r *GroupRequest) check() error {
	if r.Selector == "" {
		return fmt.Errorf("%w: a group needs a selector", ErrInvalid)
	}
	if math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0) {
		return fmt.Errorf("%w: %g is no rate: it takes a number within 0 and %d a second", ErrInvalid, r.Rate, MaxGroupRate)
	}
	if r.Rate < 0 || r.Rate > MaxGroupRate {
		return fmt.Errorf("%w: rate %g is not within 0 and %d a second", ErrInvalid, r.Rate, MaxGroupRate)
	}
	if math.IsNaN(r.StopAfterFailureShare) || r.StopAfterFailureShare < 0 || r.StopAfterFailureShare > 1 {
		return fmt.Errorf("%w: failure share %g is not within 0 and 1", ErrInvalid, r.StopAfterFailureShare)
	}
	if r.StopAfterFailureShare > 0 && r.Rate == 0 {
		r.Rate = GroupStopRate
	}
	if r.MaxDevices < 0 {
		return fmt.Errorf("%w: max devices %d is negative", ErrInvalid, r.MaxDevices)
	}
	return r.Spec.normalize()
}
