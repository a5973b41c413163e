package main

import (
	"strings"
	"testing"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// Of a canceled command it matters whether anything of it can have been done.
func TestWordsOnWhatACancellationLeft(t *testing.T) {
	canceled := operatorv1.CommandState_COMMAND_STATE_CANCELED
	for reason, want := range map[string]string{
		`the device has stopped it; it says "halfway"`:       "The device did not go on with it; what it had done by then, if it had begun, stays done.",
		`the device has stopped it; it says "not published"`: "It was not published: the gear never got it and did nothing.",
	} {
		c := &operatorv1.Command{State: canceled, Attempts: 1}
		events := []*operatorv1.CommandEvent{{State: canceled, SessionEpoch: 7, Reason: reason}}
		if got := endWords(c, events, ""); !strings.Contains(got, want) {
			t.Errorf("%s: %q", reason, got)
		}
	}
}
