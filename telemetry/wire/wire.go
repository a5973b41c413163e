// Package wire is the form of readings between a device and the store: it
// checks an encoded device.v1 Telemetry message in one pass over its bytes,
// and turns accepted messages into rows or InfluxDB line protocol.
//
// Nothing here unmarshals a message: the bytes are walked with protowire, and
// names and strings of rows point into them. What Check accepts is exactly
// what Rows yields; both follow the rules of a protobuf parser, so that they
// see what proto.Unmarshal would: a scalar that occurs twice takes its last
// value, a list that occurs in parts is joined, packed or not, and fields that
// are unknown or of another wire type are skipped. Stricter than protobuf is
// only this: groups, which the protocol has never had, are malformed.
package wire

import (
	"fmt"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Info is what Check learns of a message on its way.
type Info struct {
	// Seq of the message. It is set even for a rejected message wherever it
	// could be read. 0 says that there is no usable seq (absent, 0, or behind
	// the point where the message breaks off): such a message is always
	// rejected as malformed, and as neither Ack nor Reject can name it, all
	// that is left is to close the connection.
	Seq uint64
	// Rows of all series together; 0 when rejected.
	Rows int
	// DroppedRows is the device's running total of rows it had to drop; 0
	// when rejected.
	DroppedRows uint64
}

// Rejection says why a message is refused as a whole, for good. Only Check
// makes them.
type Rejection struct {
	Code devicev1.RejectCode
	// Detail is for people. It names the series, column or row at fault,
	// quoted and cut to a bounded length, and never a value.
	Detail string
}

func (r *Rejection) Error() string { return r.Detail }

func reject(code devicev1.RejectCode, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Short names of the codes.
const (
	malformed = devicev1.RejectCode_REJECT_CODE_MALFORMED
	notFinite = devicev1.RejectCode_REJECT_CODE_NOT_FINITE
	badTime   = devicev1.RejectCode_REJECT_CODE_TIME_OUT_OF_RANGE
	badName   = devicev1.RejectCode_REJECT_CODE_BAD_NAME
	tooLarge  = devicev1.RejectCode_REJECT_CODE_TOO_LARGE
	empty     = devicev1.RejectCode_REJECT_CODE_EMPTY
)
