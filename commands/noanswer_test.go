package commands_test

import (
	"strings"
	"testing"

	"github.com/tetherline/tetherline/commands"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// A bridge knows that no answer will come: the command ends then and there,
// and a word that comes all the same wins.
func TestNoAnswer(t *testing.T) {
	h := startHub(t, "a", newStore(t, startNATS(t)))
	v := newDevice("d1")
	v.deafen(true)
	epoch := h.connect(v)
	c := h.send(commands.Request{Device: "d1"})
	if err := h.d.NoAnswer(t.Context(), "d1", epoch-1, c.ID, "of an older session"); err != nil {
		t.Fatal(err)
	}
	if err := h.d.NoAnswer(t.Context(), "d2", epoch, c.ID, "of another device"); err != nil {
		t.Fatal(err)
	}
	if now, _, err := h.d.Get(t.Context(), c.ID); err != nil || now.State != commands.Sent {
		t.Fatalf("%s, %v", now.State, err)
	}
	if err := h.d.NoAnswer(t.Context(), "d1", epoch, c.ID, "nobody answers"); err != nil {
		t.Fatal(err)
	}
	if c = h.want(c.ID, commands.TimedOut); c.Reason != "nobody answers" || c.Confirmed {
		t.Errorf("%q, confirmed %v", c.Reason, c.Confirmed)
	}
	for _, id := range []string{c.ID, "unknown"} { // has ended; is none
		if err := h.d.NoAnswer(t.Context(), "d1", epoch, id, "again"); err != nil {
			t.Error(err)
		}
	}
	if _, err := h.d.Update(t.Context(), "d1", epoch, word(c.ID, devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED)); err != nil {
		t.Fatal(err)
	}
	h.want(c.ID, commands.Succeeded)

	c = h.send(commands.Request{Device: "d1"})
	if _, err := h.d.Cancel(t.Context(), c.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := h.d.NoAnswer(t.Context(), "d1", epoch, c.ID, "nobody answers"); err != nil {
		t.Fatal(err)
	}
	if c = h.want(c.ID, commands.TimedOut); !strings.Contains(c.Reason, "cancellation") {
		t.Errorf("%q", c.Reason)
	}
	// What was not sent yet is not for NoAnswer to end.
	h.disconnect("d1")
	c = h.send(commands.Request{Device: "d1"})
	if err := h.d.NoAnswer(t.Context(), "d1", epoch, c.ID, "nobody answers"); err != nil {
		t.Fatal(err)
	}
	h.want(c.ID, commands.Queued)
}
