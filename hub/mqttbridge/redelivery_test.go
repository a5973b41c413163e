package mqttbridge

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRedeliveryKeepsTheTimeOfArrival(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.arrivals")
	open := func() *redelivery {
		t.Helper()
		r, err := openRedelivery(path, false)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	now := int64(1_000)
	arrive := func(r *redelivery, id uint16, dup bool, hash uint64) int64 {
		t.Helper()
		now++
		at := r.arrival(id, dup, hash, func() int64 { return now })
		if err := r.write(); err != nil {
			t.Fatal(err)
		}
		return at
	}
	want := func(got, want int64) {
		t.Helper()
		if got != want {
			t.Fatalf("arrived at %d; want %d", got, want)
		}
	}
	r := open()
	a := messageHash("t", []byte("a"))
	first := arrive(r, 65534, false, a)
	want(arrive(r, 65534, true, a), first)  // sent again
	second := arrive(r, 65535, false, a)    // the same words, but new
	want(second, now)                       //
	want(arrive(r, 65535, true, a), second) //
	want(arrive(r, 65535, true, a+1), now)  // under the same identifier, but not this one
	third := arrive(r, 1, true, a+2)        // first heard as a repetition
	want(third, now)                        //
	r.acked(1, a+2)                         //
	want(arrive(r, 1, true, a+2), third)    // the acknowledgement was lost
	_ = r.close()

	// Another process knows as much.
	r = open()
	if !r.slots[1].acked || r.slots[65535].acked || r.used != packetIDs {
		t.Errorf("%+v, %+v, %d used", r.slots[1], r.slots[65535], r.used)
	}
	want(arrive(r, 1, true, a+2), third)

	// The same words under another identifier are another message, and so is
	// one under an identifier whose last message was acknowledged long ago.
	want(arrive(r, 2, true, a+2), now)
	r.acked(2, a+2)
	now += 2 * lostAcks
	arrive(r, 3, false, a)
	r.begin(nil, true)
	want(arrive(r, 2, true, a+2), now)

	// All identifiers were given, and the next is the one of an older message.
	r.begin(nil, true)
	older := arrive(r, 41, false, a+4)
	r.acked(41, a+4)
	now += 2 * roundTrip
	arrive(r, 40, false, a+5)
	want(arrive(r, 41, true, a+4), now)
	if older == now {
		t.Error("taken for an older one")
	}

	// Many are written at once, those between them as they are.
	ids := []uint16{300, 2, 70, 301, 9000, 65535, 71}
	for _, id := range ids {
		_ = r.arrival(id, false, uint64(id), func() int64 { return int64(id) })
	}
	r.acked(70, 70)
	if err := r.write(); err != nil || len(r.changed) > 0 {
		t.Errorf("%v, %d not written", err, len(r.changed))
	}
	_ = r.close()
	r = open()
	for _, id := range ids {
		if s := r.slots[id]; s.hash != uint64(id) || s.time != int64(id) || s.acked != (id == 70) {
			t.Errorf("slot %d: %+v", id, s)
		}
	}
	_ = r.close()

	// A file that was cut off is good as far as it goes.
	if err := os.Truncate(path, 20*slotBytes+5); err != nil {
		t.Fatal(err)
	}
	r = open()
	if s := r.slots[2]; s.hash != 2 || s.time != 2 || r.slots[70].hash != 0 {
		t.Errorf("%+v, %+v", s, r.slots[70])
	}
	_ = r.close()
}

// A broker that gives an identifier again at once, as those do that take the
// lowest free one, may have a new message under that of an acknowledged one
// with the same words: it is new, though the acknowledgement may be lost. That
// holds however slowly messages come, and before anything is known of the
// broker.
func TestRedeliveryByABrokerThatGivesIdentifiersAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.arrivals")
	const hash = 7777
	now := lostAcks
	var r *redelivery
	open := func() {
		t.Helper()
		var err error
		if r, err = openRedelivery(path, false); err != nil {
			t.Fatal(err)
		}
	}
	arrive := func(id uint16, dup bool) int64 {
		t.Helper()
		now += int64(3 * time.Second)
		at := r.arrival(id, dup, hash, func() int64 { return now })
		if err := r.write(); err != nil {
			t.Fatal(err)
		}
		return at
	}
	open()
	arrive(1, false)
	r.acked(1, hash)
	r.begin(nil, true)
	if at := arrive(1, true); at != now {
		t.Errorf("a new message of an unknown broker is taken for one of %d", at)
	}
	r.acked(1, hash)
	arrive(1, false)
	r.acked(1, hash)
	arrive(2, false) // while 1 is free: but it was given again before
	sixth := arrive(1, false)
	_ = r.close()
	open()
	if at := arrive(1, true); at != sixth {
		t.Errorf("the repetition of one that was not acknowledged arrived at %d", at)
	}
	r.acked(1, hash)
	if at := arrive(1, true); at != now {
		t.Errorf("a new message is taken for one of %d", at)
	}
	// What another session had is of no meaning for a new one.
	r.begin(nil, false)
	if at := arrive(1, true); at != now {
		t.Errorf("a message of a new session is taken for one of %d", at)
	}
	_ = r.close()
}

// A broker that counts all through the identifiers does not give them again at
// once.
func TestRedeliveryByABrokerThatHasGivenAllIdentifiers(t *testing.T) {
	r, err := openRedelivery(filepath.Join(t.TempDir(), "x.arrivals"), false)
	if err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	var last int64
	for n := range 3 * packetIDs {
		id := uint16(n%(packetIDs-1) + 1)
		now++
		last = r.arrival(id, false, 7777, func() int64 { return now })
		r.acked(id, 7777)
		if n%40000 == 39999 {
			r.begin(nil, true)
			if at := r.arrival(id, true, 7777, func() int64 { return 0 }); at != last {
				t.Fatalf("the repetition of message %d is taken for a new one", n)
			}
		}
		r.changed = r.changed[:0]
	}
	_ = r.close()
}

// A broker that begins to count anew gives the identifiers of messages that it
// still has to repeat to others first, and has forgotten that it sent the
// latest ones, so that it does not mark them.
func TestRedeliveryByABrokerThatCountsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.arrivals")
	r, err := openRedelivery(path, true)
	if err != nil {
		t.Fatal(err)
	}
	const sent, acked, same = 1000, 500, 100
	now := int64(0)
	arrive := func(id uint16, dup bool, hash uint64) int64 {
		t.Helper()
		now++
		at := r.arrival(id, dup, hash, func() int64 { return now })
		if err := r.write(); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for id := uint16(1); id <= sent; id++ {
		arrive(id, false, uint64(id))
		if id <= acked {
			r.acked(id, uint64(id))
		}
	}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	_ = r.close()
	if r, err = openRedelivery(path, true); err != nil {
		t.Fatal(err)
	}
	r.begin(nil, true)
	id := uint16(0)
	for range sent { // new ones, with the words of some of the acknowledged ones
		id++
		if at := arrive(id, id%2 == 0, uint64(id%same)+1); at != now {
			t.Fatalf("new message %d is taken for one of %d", id, at)
		}
	}
	for hash := uint64(sent); hash >= 1; hash-- {
		id++
		want := int64(hash)
		if hash <= acked {
			want = now + 1 // as likely a new one
		}
		if at := arrive(id, hash <= acked || hash%2 == 0, hash); at != want {
			t.Fatalf("repetition of message %d arrived at %d", hash, at)
		}
	}
	for hash := uint64(acked + 1); hash <= sent; hash++ { // none of them is awaited any more
		id++
		if at := arrive(id, false, hash); at != now {
			t.Fatalf("new message with the words of %d is taken for it", hash)
		}
	}

	// A broker that has forgotten the session repeats nothing.
	for hash := uint64(2001); hash <= 2100; hash++ {
		id++
		arrive(id, false, hash)
	}
	r.begin(nil, false)
	for hash := uint64(2001); hash <= 2100; hash++ {
		id++
		if at := arrive(id, false, hash); at != now {
			t.Fatalf("new message with the words of %d is taken for it", hash)
		}
	}
	_ = r.close()
}

// However many are still to be repeated, there is an end to the room.
func TestRedeliveryWithoutRoom(t *testing.T) {
	r, err := openRedelivery(filepath.Join(t.TempDir(), "x.arrivals"), true)
	if err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	for round := range uint64(3) {
		for id := 1; id < packetIDs; id += 7 {
			now++
			r.arrival(uint16(id), false, round*packetIDs+uint64(id), func() int64 { return now })
		}
		r.begin(nil, true)
	}
	_ = r.close()
}

func TestMessageHashTellsTopicFromPayload(t *testing.T) {
	if messageHash("ab", []byte("c")) == messageHash("a", []byte("bc")) || messageHash("", nil) == 0 {
		t.Error("hashes are not told apart")
	}
}
