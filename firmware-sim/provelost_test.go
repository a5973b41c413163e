package firmwaresim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// A lost row is found with the promise that its loss breaks, and where that is
// not known the words say so.
func TestLostRowsAreJudged(t *testing.T) {
	const cannotTell, perhaps2 = "cannot be told", "then promise 2 is the broken one"
	for name, tt := range map[string]struct {
		rows  [lossKinds]uint64
		want  map[promise]int // findings
		words string          // in each of those of promises 1 and 4; "": neither of the two that say that it is not known
	}{
		"before a kill":                      {[lossKinds]uint64{lostHub: 3}, map[promise]int{promiseDurable: 1}, ""},
		"while the buffer was full":          {[lossKinds]uint64{lostFull: 3}, map[promise]int{promiseRefuses: 1}, ""},
		"before a kill, full, some of both":  {[lossKinds]uint64{lostFull: 3, lostEither: 2}, map[promise]int{promiseRefuses: 2}, ""},
		"before kills, of one while full":    {[lossKinds]uint64{lostHub: 3, lostEither: 2}, map[promise]int{promiseDurable: 2}, ""},
		"before a kill while full":           {[lossKinds]uint64{lostEither: 2}, map[promise]int{promiseDurable: 1}, cannotTell},
		"all the time":                       {[lossKinds]uint64{lostHub: 1, lostFull: 1, lostOtherwise: 5}, map[promise]int{promiseDurable: 1, promiseRefuses: 1, promiseStored: 1}, perhaps2},
		"while nothing was wrong":            {[lossKinds]uint64{lostOtherwise: 5}, map[promise]int{promiseStored: 1}, ""},
		"poison while the buffer was full":   {[lossKinds]uint64{lostFull: 3, lostPoison: 1}, map[promise]int{promiseRefuses: 2}, ""},
		"poison before a kill":               {[lossKinds]uint64{lostHub: 3, lostPoison: 1}, map[promise]int{promiseDurable: 2}, ""},
		"poison alone":                       {[lossKinds]uint64{lostPoison: 1}, map[promise]int{promiseStored: 1}, ""},
		"none":                               {[lossKinds]uint64{}, map[promise]int{}, ""},
		"all the time, and one before kills": {[lossKinds]uint64{lostEither: 1, lostOtherwise: 5}, map[promise]int{promiseDurable: 1, promiseStored: 1}, perhaps2},
	} {
		r := &proof{lost: []lostRows{{device: "one"}, {device: "seven", rows: tt.rows}}}
		r.judgeLost()
		for p := range promises {
			found := r.wrong[p].Findings
			if len(found) != tt.want[p] {
				t.Errorf("%s: found with promise %d: %q", name, p, found)
			}
			for _, words := range found {
				if p == promiseStored {
					continue
				}
				for _, doubt := range []string{cannotTell, perhaps2} {
					if strings.Contains(words, doubt) != (doubt == tt.words) {
						t.Errorf("%s: promise %d: %s", name, p, words)
					}
				}
			}
		}
	}
}

// A row that somebody has sent without a proof is no duplicate of another, and
// no device has sent it in another's name.
func TestRowsOfStrangersAreJudged(t *testing.T) {
	numbered := func(n int64) map[string]*operatorv1.Value {
		return map[string]*operatorv1.Value{fieldNumber: {Value: &operatorv1.Value_IntValue{IntValue: n}}}
	}
	for name, tt := range map[string]struct {
		under  string
		number int64
		want   promise // theRun: nothing is wrong
	}{
		"of a middleman":                 {strangerID, strangerRow, promiseProofs},
		"of an impostor":                 {"seven", strangerRow, promiseProofs},
		"of a usurper, in its own name":  {strangerID, usurperRow, promiseOwnName},
		"of a usurper, in another's":     {"seven", usurperRow, promiseOwnName},
		"none, but what its device sent": {"", 0, theRun},
	} {
		r := new(proof)
		c, rows := checkedRows()
		for _, row := range rows {
			c.takeRow(7, row)
		}
		stranger := &rowCheck{d: &provenDevice{id: strangerID, index: -1, ledger: new(rowLedger)}}
		switch tt.under {
		case strangerID:
			stranger.take(1, numbered(tt.number))
		case "seven":
			c.take(1, numbered(tt.number))
		}
		r.judge(c)
		r.judgeStranger(stranger)
		r.judgeCounted(c.stored + stranger.stored)
		for p := range promises {
			if r.wrong[p].broken() != (p == tt.want && p != theRun) {
				t.Errorf("%s: found with promise %d: %q", name, p, r.wrong[p].Findings)
			}
		}
	}
}

// What the hub says of a command while it can hear nothing of the device must
// not be the device's word.
func TestWordOfADevice(t *testing.T) {
	const (
		queued   = operatorv1.CommandState_COMMAND_STATE_QUEUED
		sent     = operatorv1.CommandState_COMMAND_STATE_SENT
		timedOut = operatorv1.CommandState_COMMAND_STATE_TIMED_OUT
	)
	for name, tt := range map[string]struct {
		events []operatorv1.CommandState
		state  operatorv1.CommandState
		want   operatorv1.CommandState
	}{
		"sent":                             {[]operatorv1.CommandState{queued, sent}, sent, 0},
		"timed out by the hub":             {[]operatorv1.CommandState{queued, sent, timedOut}, timedOut, 0},
		"canceled by an operator":          {[]operatorv1.CommandState{queued, sent, canceled}, canceled, 0},
		"delivered":                        {[]operatorv1.CommandState{queued, sent, delivered}, delivered, delivered},
		"delivered, without an event":      {[]operatorv1.CommandState{queued, sent}, delivered, delivered},
		"delivered, and sent again":        {[]operatorv1.CommandState{queued, sent, delivered, sent}, sent, delivered},
		"succeeded, and was not delivered": {[]operatorv1.CommandState{queued, sent, succeeded}, succeeded, succeeded},
	} {
		answer := &operatorv1.GetCommandResponse{Command: &operatorv1.Command{State: tt.state}}
		for _, s := range tt.events {
			answer.Events = append(answer.Events, &operatorv1.CommandEvent{State: s})
		}
		if got := deviceWord(answer); got != tt.want {
			t.Errorf("%s: got %v; want %v", name, got, tt.want)
		}
	}
}

// What a hub that answers leaves undone for ever is held against the promise
// of that, and what one that does not answer leaves against its coming back.
func TestStuckRunsAreJudged(t *testing.T) {
	away := errors.New("no answer")
	for name, tt := range map[string]struct {
		err  error
		want promise
	}{
		"commands without an end":       {&stuckError{broken: promiseCommands, what: "commands have no end", left: 3}, promiseCommands},
		"wrapped":                       {fmt.Errorf("settle: %w", &stuckError{broken: promiseStored}), promiseStored},
		"a hub that is away":            {&stuckError{broken: promiseCommands, err: away}, theRun},
		"rows that are not acked":       {&stuckError{what: "devices have rows that are not acknowledged", left: 1}, theRun},
		"anything else that went wrong": {away, theRun},
	} {
		if got := brokenBy(tt.err); got != tt.want {
			t.Errorf("%s: promise %d; want %d", name, got, tt.want)
		}
	}
	if words := (&stuckError{what: "commands have no end", left: 3, err: away}).Error(); !strings.Contains(words, "3 commands have no end, and nothing has changed for 1m30s\nno answer") {
		t.Error(words)
	}
}

// What a disk takes to note that a device is disabled is not the time that its
// connection lives on.
func TestRevocationOnABusyDisk(t *testing.T) {
	asked := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		answered, shut time.Duration // after it was asked
		wasBusy        bool
		took           time.Duration
		busy           bool
	}{
		"at once":                           {20 * time.Millisecond, 30 * time.Millisecond, false, 30 * time.Millisecond, false},
		"before the answer":                 {100 * time.Millisecond, 50 * time.Millisecond, false, 50 * time.Millisecond, false},
		"late":                              {20 * time.Millisecond, 2 * time.Second, false, 2 * time.Second, false},
		"late on a busy machine":            {20 * time.Millisecond, 4 * time.Second, true, 4 * time.Second, true},
		"with an answer that took long":     {4 * time.Second, 4100 * time.Millisecond, false, 4100 * time.Millisecond, true},
		"long after one that took long":     {4 * time.Second, 9 * time.Second, false, 5 * time.Second, false},
		"long after one, on a busy machine": {4 * time.Second, 9 * time.Second, true, 5 * time.Second, true},
	} {
		took, busy := revocationOf(asked, asked.Add(tt.answered), asked.Add(tt.shut), tt.wasBusy)
		if took != tt.took || busy != tt.busy {
			t.Errorf("%s: %v, busy %v; want %v, %v", name, took, busy, tt.took, tt.busy)
		}
	}
}
