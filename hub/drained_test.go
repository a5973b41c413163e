package hub_test

import (
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// drainedFor is for how long the hub's buffer has to be empty before a row that
// is not stored is a row that is lost. A hub that is busy may count its buffer
// by ten seconds late.
const drainedFor = 30 * time.Second

// untilStored waits until all that was acknowledged is stored, and no longer
// than it can still come: the verdict is the caller's.
func untilStored(t testing.TB, h hubtest.Endpoint, all func() bool) {
	t.Helper()
	deadline := time.Now().Add(hubtest.Patience)
	var empty time.Time // since when the buffer is
	for !all() && time.Now().Before(deadline) {
		answer, err := h.Status.GetStatus(t.Context(), connect.NewRequest(&operatorv1.GetStatusRequest{}))
		switch {
		case err != nil || answer.Msg.Buffer.GetChunks() != 0:
			empty = time.Time{}
		case empty.IsZero():
			empty = time.Now()
		case time.Since(empty) > drainedFor:
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
