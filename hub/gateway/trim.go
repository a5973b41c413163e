package gateway

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// crypto/tls keeps the buffers of a connection at the size of the largest
// record and handshake message that has ever come: 3.5 KiB after a ClientHello
// with a post-quantum key share, 20 KiB after one large frame, and that for as
// long as the device is idle (golang/go#42035). It has no call to free them,
// so trim empties the fields themselves. They are looked for by name and type:
// in a Go release that has them no more, trim does nothing, and
// TestTrimFreesTheInputOfTLS fails.
var (
	tlsRawInput = tlsField[bytes.Buffer]("rawInput") // records as they come
	tlsInput    = tlsField[bytes.Reader]("input")    // of the last record; shares memory of rawInput
	tlsHand     = tlsField[bytes.Buffer]("hand")     // handshake messages
)

// tlsField is the offset of a field of tls.Conn; 0: there is none of that type.
func tlsField[T any](name string) uintptr {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return 0
	}
	return f.Offset
}

// trim frees the empty input buffers of t. The caller is the one who reads,
// and does not read now; writing may go on.
func trim(t *tls.Conn) {
	if tlsRawInput == 0 || tlsInput == 0 || tlsHand == 0 {
		return
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t), tlsRawInput))
	input := (*bytes.Reader)(unsafe.Add(unsafe.Pointer(t), tlsInput))
	hand := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(t), tlsHand))
	if raw.Len() == 0 && input.Len() == 0 {
		*raw, *input = bytes.Buffer{}, bytes.Reader{}
	}
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
}

// trim frees what reading has grown.
func (c *conn) trim() {
	if t, ok := c.ws.NetConn().(*tls.Conn); ok {
		trim(t)
	}
}
