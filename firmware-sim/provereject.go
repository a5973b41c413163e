package firmwaresim

import (
	"time"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// The times that a hub takes, from proto/README.md. rejectSlack is for the way
// of a Reject, which may be held up with the link.
const (
	timeAhead   = time.Hour
	timeBehind  = 10 * 365 * 24 * time.Hour
	rejectSlack = 10 * time.Minute
)

// judgeRejection looks whether a frame had to be rejected. A device of a proof
// sends nothing that is malformed: its clock may be wrong, and that is all.
func (r *proof) judgeRejection(d *provenDevice, x client.Rejection, heard time.Time) {
	if x.Rows == 0 {
		return // an empty frame, in the place of one that was given up
	}
	p := promiseStored
	if r.doubting[doubtFull].Load() {
		p = promiseRefuses
	}
	oldest, newest := d.ledger.refusedLast()
	ahead, behind := time.Unix(0, newest.time).Sub(heard), heard.Sub(time.Unix(0, oldest.time))
	switch {
	case x.Code != devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE:
		r.find(p, "%s: %d rows, the newest is number %d, were rejected that nothing is wrong with: %v %s", d.id, x.Rows, newest.n, x.Code, x.Detail)
	case ahead < timeAhead-rejectSlack && behind < timeBehind-rejectSlack:
		r.find(p, "%s: %d rows, the newest is number %d, were rejected for their time, which was %v ahead: %s", d.id, x.Rows, newest.n, ahead.Round(time.Second), x.Detail)
	}
}
