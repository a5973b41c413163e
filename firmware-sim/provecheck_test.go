package firmwaresim

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// checkedRows is a device with 200 acknowledged rows, and what a store would
// hand out of them.
func checkedRows() (*rowCheck, []ledgerRow) {
	d := &provenDevice{index: 7, id: "seven", ledger: &rowLedger{doubting: new([doubts]atomic.Bool)}}
	var rows []ledgerRow
	for n := range uint32(200) {
		d.ledger.published(n == 150)
		row := ledgerRow{n: n, time: 1_700_000_000_000_000_000 + int64(n)*1e7, poison: n == 150, fields: valuesSum(valuesAt(7, n))}
		rows = append(rows, row)
	}
	d.ledger.acknowledged(rows)
	return &rowCheck{d: d}, rows
}

// valuesAt is what row n of a device says: each with one field more than what
// identifies it, and row 150 with one that the store must refuse.
func valuesAt(device int, n uint32) map[string]*operatorv1.Value {
	values := map[string]*operatorv1.Value{
		fieldNumber:  {Value: &operatorv1.Value_IntValue{IntValue: numberOf(device, n)}},
		fieldValue:   {Value: &operatorv1.Value_DoubleValue{DoubleValue: valueOf(device, n)}},
		fieldBallast: {Value: &operatorv1.Value_StringValue{StringValue: "xx"}},
	}
	if n == 150 {
		values[fieldConflict] = &operatorv1.Value{Value: &operatorv1.Value_StringValue{StringValue: "half"}}
	}
	return values
}

func (c *rowCheck) takeRow(device int, r ledgerRow) {
	if r.poison {
		var s shelf
		s.put(r)
		c.shelved, c.shelf = s.rows, s.sums
		return
	}
	c.take(r.time, valuesAt(device, r.n))
}

// Each thing that can be wrong with the rows of a store is found, and counted
// against its promise; nothing is found where nothing is wrong.
func TestRowsAreJudged(t *testing.T) {
	for name, tt := range map[string]struct {
		hand func(r *proof, c *rowCheck, rows []ledgerRow)
		want []promise
	}{
		"all there, in any order": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
			for _, r := range rows {
				c.takeRow(7, r)
			}
		}, nil},
		"one that the store must refuse, stored": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range slices.Delete(rows, 150, 151) {
				c.takeRow(7, r)
			}
			c.take(1, valuesAt(7, 150))
		}, []promise{promiseStored}},
		"one that was answered with 500 for ever, stored when that was over": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.stubbornIs(150)
			c.d.ledger.pardon(true)
			for _, r := range slices.Delete(rows, 150, 151) {
				c.takeRow(7, r)
			}
			c.take(1, valuesAt(7, 150))
		}, nil},
		"one that was answered with 500 for ever, lost": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.stubbornIs(150)
			c.d.ledger.pardon(true)
			for _, r := range slices.Delete(rows, 150, 151) {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
		"one in quarantine at another time": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			rows[150].time += 3600e9
			for _, r := range rows {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
		"one in quarantine without a field": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			values := valuesAt(7, 150)
			delete(values, fieldBallast)
			rows[150].fields = valuesSum(values)
			for _, r := range rows {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
		"one without one of its fields": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range rows[1:] {
				c.takeRow(7, r)
			}
			values := valuesAt(7, 0)
			delete(values, fieldBallast)
			c.take(rows[0].time, values)
		}, []promise{promiseOnce}},
		"one that nothing is wrong with in quarantine": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range slices.Delete(rows, 3, 4) {
				c.takeRow(7, r)
			}
			c.shelved.set(3) // beside 150
		}, []promise{promiseStored}},
		"one missing": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range rows[:199] {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
		"one missing, acknowledged right before a kill": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.doubtRecent(doubtHub, time.Now())
			for _, r := range rows[1:] {
				c.takeRow(7, r)
			}
		}, []promise{promiseDurable}},
		"one missing, acknowledged while the buffer was filled": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.doubting[doubtFull].Store(true)
			c.d.ledger.published(false)
			c.d.ledger.acknowledged([]ledgerRow{{n: 200}})
			for _, r := range rows {
				c.takeRow(7, r)
			}
		}, []promise{promiseRefuses}},
		"one that the store must refuse, missing": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.doubtRecent(doubtHub, time.Now())
			for _, r := range slices.Delete(rows, 150, 151) {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
		"one twice": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			again := rows[5]
			again.time++
			for _, r := range append(rows, again) {
				c.takeRow(7, r)
			}
		}, []promise{promiseOnce}},
		"one at another time": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			rows[70].time++
			for _, r := range rows {
				c.takeRow(7, r)
			}
		}, []promise{promiseOnce}},
		"one that was never published": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range append(rows, ledgerRow{n: 200, time: 1}) {
				c.takeRow(7, r)
			}
		}, []promise{promiseOnce}},
		"one with another value": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range rows[1:] {
				c.takeRow(7, r)
			}
			c.take(rows[0].time, map[string]*operatorv1.Value{fieldNumber: {Value: &operatorv1.Value_IntValue{IntValue: numberOf(7, 0)}}})
		}, []promise{promiseOnce}},
		"one of another device": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range rows {
				c.takeRow(7, r)
			}
			c.takeRow(8, rows[0])
		}, []promise{promiseOwnName}},
		"one that is nobody's any more": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			for _, r := range rows {
				c.takeRow(7, r)
			}
			c.d.ledger.published(false)
		}, []promise{theRun}},
		"one that was rejected": {func(_ *proof, c *rowCheck, rows []ledgerRow) {
			c.d.ledger.published(false)
			c.d.ledger.refused([]ledgerRow{{n: 200}})
			for _, r := range append(rows, ledgerRow{n: 200, time: 1}) {
				c.takeRow(7, r)
			}
		}, []promise{promiseStored}},
	} {
		r := new(proof)
		c, rows := checkedRows()
		tt.hand(r, c, rows)
		r.judge(c)
		r.judgeLost()
		var got []promise
		for p := range promises {
			if r.wrong[p].broken() {
				got = append(got, p)
			}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: found wrong with promises %v; want %v: %v", name, got, tt.want, r.wrong)
		}
	}
}

// The books have each row in one place, and balance only where none is lost
// and none appears from nowhere.
func TestBooksAddUp(t *testing.T) {
	stored := func(c *rowCheck, rows []ledgerRow) {
		for _, r := range rows {
			c.take(r.time, valuesAt(7, r.n)) // whatever it says
		}
	}
	for name, tt := range map[string]struct {
		hand     func(c *rowCheck, rows []ledgerRow)
		want     Books
		balances bool
	}{
		"one in each place": {func(c *rowCheck, rows []ledgerRow) {
			stored(c, rows[1:])
			c.shelved.set(0)
			for range 4 {
				c.d.ledger.published(false)
			}
			c.d.ledger.refused([]ledgerRow{{n: 200}})
			c.d.ledger.givenUp([]ledgerRow{{n: 201}})
			c.taken, c.waiting = 204, 2
		}, Books{Generated: 204, Stored: 199, Quarantined: 1, Rejected: 1, Dropped: 1, InSpools: 2}, true},
		"dropped, and stored nevertheless": {func(c *rowCheck, rows []ledgerRow) {
			c.d.ledger.published(false)
			c.d.ledger.givenUp([]ledgerRow{{n: 200}})
			stored(c, append(rows, ledgerRow{n: 200, time: 1}))
			c.taken = 201
		}, Books{Generated: 201, Stored: 201, Nevertheless: 1}, true},
		"stored, and in quarantine": {func(c *rowCheck, rows []ledgerRow) {
			stored(c, rows)
			c.shelved.set(3)
			c.taken = 200
		}, Books{Generated: 200, Stored: 200}, true},
		"acknowledged and lost": {func(c *rowCheck, rows []ledgerRow) {
			stored(c, rows[1:])
			c.taken, c.waiting = 200, 5
		}, Books{Generated: 200, Stored: 199, Lost: 1}, false},
		"nowhere": {func(c *rowCheck, rows []ledgerRow) {
			c.d.ledger.published(false)
			c.d.ledger.published(false)
			stored(c, rows)
			c.taken, c.waiting = 202, 1
		}, Books{Generated: 202, Stored: 200, InSpools: 1, Lost: 1}, false},
		"generated, and never seen": {func(c *rowCheck, rows []ledgerRow) {
			stored(c, rows)
			c.taken = 201
		}, Books{Generated: 201, Stored: 200}, false},
	} {
		c, rows := checkedRows()
		tt.hand(c, rows)
		if got := c.books(); got != tt.want || got.balance() != tt.balances {
			t.Errorf("%s: the books are %+v and balance: %v; want %+v, %v", name, got, got.balance(), tt.want, tt.balances)
		}
		r := &proof{}
		c, rows = checkedRows()
		tt.hand(c, rows)
		r.judge(c)
		r.judgeLost()
		err := r.checkBooks(t.Context())
		found := r.wrong[theRun].broken() || r.verdict.Rows.Missing > 0
		if err != nil || found == tt.balances {
			t.Errorf("%s: found are %v, %v", name, r.wrong, err)
		}
		if name == "acknowledged and lost" && (r.wrong[theRun].broken() || !r.wrong[promiseStored].broken()) {
			t.Errorf("%s: found are %v", name, r.wrong)
		}
	}
}

// A rejection is right only of a time that the hub does not take.
func TestRejectionsAreJudged(t *testing.T) {
	const malformed = devicev1.RejectCode_REJECT_CODE_MALFORMED
	const badTime = devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE
	now := time.Now()
	for name, tt := range map[string]struct {
		x     client.Rejection
		ahead time.Duration // of the later of two rows
		full  bool
		want  promise // theRun: nothing is wrong
	}{
		"a clock that is ahead":       {x: client.Rejection{Rows: 2, Code: badTime}, ahead: 2 * time.Hour},
		"a clock that is behind":      {x: client.Rejection{Rows: 2, Code: badTime}, ahead: -11 * 365 * 24 * time.Hour},
		"an empty frame":              {x: client.Rejection{Code: devicev1.RejectCode_REJECT_CODE_EMPTY}},
		"another reason":              {x: client.Rejection{Rows: 2, Code: malformed}, ahead: 2 * time.Hour, want: promiseStored},
		"a clock that is right":       {x: client.Rejection{Rows: 2, Code: badTime}, want: promiseStored},
		"while the buffer is filling": {x: client.Rejection{Rows: 2, Code: malformed}, full: true, want: promiseRefuses},
	} {
		r, d := new(proof), &provenDevice{id: "seven", ledger: new(rowLedger)}
		r.doubting[doubtFull].Store(tt.full)
		if tt.x.Rows > 0 {
			d.ledger.refused([]ledgerRow{{n: 3, time: now.Add(tt.ahead - time.Second).UnixNano()}, {n: 4, time: now.Add(tt.ahead).UnixNano()}})
		}
		r.judgeRejection(d, tt.x, now)
		for p := range promises {
			if r.wrong[p].broken() != (p == tt.want && p != theRun) {
				t.Errorf("%s: found with promise %d: %v", name, p, r.wrong[p].Findings)
			}
		}
	}
}

// A ledger reads the rows of frames as they are sent.
func TestLedgerReadsFrames(t *testing.T) {
	body, err := proto.Marshal(&devicev1.Telemetry{Series: []*devicev1.Series{
		{BaseTimeUnixNs: 100, Columns: []*devicev1.Column{{Name: fieldNumber, Ints: []int64{numberOf(3, 9)}}}},
		{BaseTimeUnixNs: 200, TimeDeltaNs: []int64{0, 5, 7}, Columns: []*devicev1.Column{
			{Name: fieldConflict, Strings: []string{"half"}, Rows: []uint32{1}},
			{Name: fieldNumber, Ints: []int64{numberOf(3, 10), numberOf(3, 11), numberOf(3, 12)}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := rowsOf(body, 3)
	if want := []ledgerRow{
		{9, 100, intSum(fieldNumber, numberOf(3, 9)), false}, {10, 200, intSum(fieldNumber, numberOf(3, 10)), false},
		{11, 205, intSum(fieldNumber, numberOf(3, 11)) + stringSum(fieldConflict, "half"), true},
		{12, 212, intSum(fieldNumber, numberOf(3, 12)), false},
	}; err != nil || !slices.Equal(rows, want) {
		t.Errorf("rows are %v, %v; want %v", rows, err, want)
	}
	if _, err := rowsOf(body, 4); err == nil {
		t.Error("rows of another device are taken")
	}
}

// A command's end as the operator sees it is held against what its device did.
func TestOrdersAreJudged(t *testing.T) {
	const (
		sent     = operatorv1.CommandState_COMMAND_STATE_SENT
		timedOut = operatorv1.CommandState_COMMAND_STATE_TIMED_OUT
		expired  = operatorv1.CommandState_COMMAND_STATE_EXPIRED
	)
	for name, tt := range map[string]struct {
		order  order
		states []operatorv1.CommandState
		device string
		replay operatorv1.ReplayClass
		sent   uint32
		right  bool
	}{
		"done":                         {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{sent, delivered, succeeded}, sent: 2, right: true},
		"late result":                  {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{sent, timedOut, succeeded}, sent: 1, right: true},
		"canceled while it is late":    {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{sent, timedOut, timedOut, succeeded}, sent: 1, right: true},
		"the same end twice":           {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{sent, succeeded, succeeded}, sent: 1},
		"never sent":                   {order: order{}, states: []operatorv1.CommandState{expired}, right: true},
		"reboot":                       {order: order{reboot: true}, states: []operatorv1.CommandState{succeeded}, sent: 1, right: true},
		"failed after it was canceled": {order: order{runs: 1, outcome: outcomeFailed}, states: []operatorv1.CommandState{canceled}, sent: 1, right: true},
		"no end":                       {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{sent, delivered}, sent: 1},
		"two ends of the device":       {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{failed, succeeded}, sent: 1},
		"another end":                  {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{failed}, sent: 1},
		"ran, and is shown as expired": {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{expired}},
		"has not run":                  {order: order{}, states: []operatorv1.CommandState{succeeded}, sent: 1},
		"another device":               {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{succeeded}, device: "other", sent: 1},
		"sent again":                   {order: order{runs: 1, outcome: outcomeSucceeded}, states: []operatorv1.CommandState{succeeded}, replay: operatorv1.ReplayClass_REPLAY_CLASS_ONCE, sent: 2},
	} {
		c := &operatorv1.Command{DeviceId: "it" + tt.device, Spec: &operatorv1.CommandSpec{Replay: tt.replay}, Attempts: tt.sent, State: tt.states[len(tt.states)-1]}
		var events []*operatorv1.CommandEvent
		for _, s := range tt.states {
			events = append(events, &operatorv1.CommandEvent{State: s})
		}
		if wrong := tt.order.wrong(c, events, "it"); (wrong == "") != tt.right {
			t.Errorf("%s: found %q", name, wrong)
		}
	}
}

// A seed makes the same schedule each time, whatever else it is asked for.
func TestProveScheduleRepeats(t *testing.T) {
	all := func(string) bool { return true }
	cfg := ProveConfig{For: 10 * time.Minute, Seed: 9}
	a, b := planProve(&cfg, all), planProve(&cfg, all)
	if !reflect.DeepEqual(a, b) || len(a.all()) < 100 {
		t.Errorf("one seed makes two schedules: %v and %v", a.all(), b.all())
	}
	cfg.Seed = 10
	if reflect.DeepEqual(a, planProve(&cfg, all)) {
		t.Error("two seeds make one schedule")
	}
	for _, window := range []time.Duration{10 * time.Second, time.Minute, 8 * time.Hour} {
		cfg.For = window
		happens := map[string]int{}
		for l, lane := range planProve(&cfg, all) {
			end := time.Duration(0)
			for _, f := range lane {
				if f.at < end || f.lasts < f.shortest {
					t.Errorf("%v: %s in lane %d begins at %v, before %v, or lasts %v", window, f.name, l, f.at, end, f.lasts)
				}
				end = f.at + f.lasts
				happens[f.name]++
			}
		}
		if window >= time.Minute && len(happens) != len(faults) {
			t.Errorf("in %v there are only %v", window, happens)
		}
	}
}
