package hub

import (
	"crypto/tls"
	"log/slog"
	"testing"
	"time"
)

// There is a new key every day, and one is kept for the seven days that a
// ticket may live; what is saved is what is read.
func TestTicketKeysRotate(t *testing.T) {
	dir := t.TempDir()
	tickets, err := openTickets(dir, new(tls.Config), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := tickets.keys[0].made
	first := tickets.keys[0].key
	if tickets.rotate(now.Add(ticketKeyAge - time.Second)) {
		t.Error("a key of less than a day is replaced")
	}
	for day := 1; day <= 10; day++ {
		if !tickets.rotate(now.Add(time.Duration(day) * ticketKeyAge)) {
			t.Fatalf("no new key on day %d", day)
		}
		held := false
		for _, k := range tickets.keys {
			held = held || k.key == first
		}
		if want := day < 7; held != want {
			t.Errorf("day %d: the first key is held: %v; want %v", day, held, want)
		}
		if len(tickets.keys) > 7 {
			t.Errorf("day %d: %d keys", day, len(tickets.keys))
		}
	}
	// A clock that was set back: keys of the future are not used for ever.
	if tickets.rotate(now.Add(-time.Hour)); len(tickets.keys) > 7 {
		t.Errorf("%d keys after the clock was set back", len(tickets.keys))
	}
	if err := tickets.save(); err != nil {
		t.Fatal(err)
	}
	again, err := openTickets(dir, new(tls.Config), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	last := again.keys[len(again.keys)-1]
	if want := tickets.keys[len(tickets.keys)-1]; last.key != want.key || last.made.Unix() != want.made.Unix() {
		t.Error("the oldest key is another after it was saved and read")
	}
}
