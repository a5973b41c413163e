// Package device holds what both ends of a connection must agree on: the form
// of a device's id and credential, and the proofs by which a device and its
// hub know each other. It is pure: no clock, no file, no socket.
//
// A credential carries one 32-byte secret. Two tokens come from it by
// HKDF-SHA256 (RFC 5869), one for each direction. Each side proves its token
// by HMAC-SHA256 (RFC 2104) over the transcript of the handshake, so that no
// token crosses the wire and no proof is worth anything on another connection.
package device

import (
	"errors"
	"fmt"
	"strings"
)

// Protocol names the device protocol: the WebSocket subprotocol, the field
// protocol of the Challenge, and the first bytes of every transcript.
const Protocol = "tetherline.v1"

// Path of the device endpoint in the hub's URL.
const Path = "/v1/device"

// Sizes, in bytes.
const (
	MaxIDBytes  = 64
	SecretBytes = 32
	NonceBytes  = 32
	BootIDBytes = 16
	ProofBytes  = 32
	// BindingBytes is the length of the TLS exporter value (RFC 9266).
	BindingBytes = 32
)

// ErrBadID says that a string is no device id.
var ErrBadID = errors.New("a device id is 1 to 64 letters, digits, '-' or '_'")

// CheckID returns nil, or an error that wraps ErrBadID and quotes id.
func CheckID(id string) error {
	if validID(id) {
		return nil
	}
	return fmt.Errorf("%.80q: %w", id, ErrBadID)
}

func validID(id string) bool {
	if len(id) == 0 || len(id) > MaxIDBytes {
		return false
	}
	return strings.IndexFunc(id, notIDRune) < 0
}

func notIDRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}
