package session

import "google.golang.org/protobuf/encoding/protowire"

// frameKind is a member of DeviceFrame's oneof, by its field number.
type frameKind protowire.Number

const (
	frameUnknown   frameKind = 0
	frameHello     frameKind = 1
	frameTelemetry frameKind = 2
	frameDescribe  frameKind = 3
	frameUpdate    frameKind = 4
)

// splitFrame takes a DeviceFrame apart without unmarshalling it. A frame
// without a member that is known here is frameUnknown: a newer device may say
// more. Two known members, which no encoder makes, and bytes that are no
// message are an error.
func splitFrame(b []byte) (kind frameKind, body []byte, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil, forbidden("not a DeviceFrame")
		}
		b = b[n:]
		if num > protowire.Number(frameUpdate) || typ != protowire.BytesType {
			n = protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return 0, nil, forbidden("not a DeviceFrame")
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 || kind != frameUnknown {
			return 0, nil, forbidden("not a DeviceFrame")
		}
		kind, body, b = frameKind(num), value, b[n:]
	}
	return kind, body, nil
}

// telemetrySeq reads the seq of an encoded Telemetry message, wherever it
// stands; the last one counts, as in every protobuf parser. What is no
// message is left to wire.Check. 0: there is none.
func telemetrySeq(b []byte) (seq uint64) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return seq
		}
		b = b[n:]
		if num == 1 && typ == protowire.VarintType {
			if seq, n = protowire.ConsumeVarint(b); n < 0 {
				return 0
			}
		} else if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return seq
		}
		b = b[n:]
	}
	return seq
}
