package session

import "strconv"

// CloseCode is the number in a WebSocket close frame (RFC 6455, section 7.4).
type CloseCode uint16

// The close codes of the device protocol. Below 4500 a device comes back with
// backoff, from 4500 it stops until an operator has acted.
const (
	CloseNormal          CloseCode = 1000
	CloseShutdown        CloseCode = 1001
	CloseProtocolError   CloseCode = 1002
	CloseUnsupportedData CloseCode = 1003
	CloseLost            CloseCode = 1006 // never sent: the connection broke
	CloseInvalidData     CloseCode = 1007
	CloseTooBig          CloseCode = 1009
	CloseInternal        CloseCode = 1011

	CloseDraining         CloseCode = 4000
	CloseSuperseded       CloseCode = 4001
	CloseHeartbeat        CloseCode = 4002
	CloseForbidden        CloseCode = 4003
	CloseRenewed          CloseCode = 4004
	CloseRateLimit        CloseCode = 4008
	CloseTooSlow          CloseCode = 4009
	CloseHandshakeTimeout CloseCode = 4010

	CloseUnauthorized       CloseCode = 4500
	CloseDisabled           CloseCode = 4501
	CloseUnsupportedVersion CloseCode = 4502
)

// CloseInfo is one row of the table of close codes.
type CloseInfo struct {
	Code CloseCode
	Name string // short, for metrics and logs
	Text string // for whoever writes a client
	// Reason is what the close frame says where nothing more exact is known.
	Reason string
	// Presence is what operators read as the reason of the disconnect.
	Presence string
	// Reconnect: the device comes back by itself.
	Reconnect bool
}

// closeTable is the one table of close codes: the documentation, the
// counters and the tests read it.
var closeTable = [...]CloseInfo{
	{CloseNormal, "normal", "the device ended the session", "", "closed by the device", true},
	{CloseShutdown, "shutting_down", "the hub is shutting down; everything it has acknowledged is durable", "shutting down", "hub stopped", true},
	{CloseProtocolError, "protocol_error", "RFC 6455 was broken: a frame without a mask, reserved bits, a bad opcode or a bad control frame", "protocol error", "protocol error", true},
	{CloseUnsupportedData, "unsupported_data", "a text message; the protocol is binary", "text messages are not supported", "protocol error", true},
	{CloseLost, "lost", "never sent: the connection broke without a close frame", "", "connection lost", true},
	{CloseInvalidData, "invalid_data", "a close frame whose reason is not UTF-8", "invalid data", "protocol error", true},
	{CloseTooBig, "too_big", "a message over the limit: 4 KiB before the welcome, max_frame_bytes after it", "message too big", "message too big", true},
	{CloseInternal, "internal", "the hub failed", "internal error", "hub error", true},
	{CloseDraining, "draining", "the node is being drained; the reason carries the retry slot, \"retry_ms=1500\": come back no sooner", "retry_ms=0", "node draining", true},
	{CloseSuperseded, "superseded", "a newer session of the same device has taken over", "superseded by a newer session", "superseded", true},
	{CloseHeartbeat, "heartbeat", "nothing was heard within 10 s of a ping", "heartbeat missed", "heartbeat missed", true},
	{CloseForbidden, "forbidden", "a message that the protocol does not allow here; the reason says which", "forbidden message", "forbidden message", true},
	{CloseRenewed, "renewed", "the credential of this session has been superseded: come back with the newest one", "credential superseded", "credential superseded", true},
	{CloseRateLimit, "rate_limit", "more in flight than the window, or pauses that were not kept, again and again", "rate limit", "throttled", true},
	{CloseTooSlow, "too_slow", "the device did not read: a write took over 10 s, or more than the outgoing queue holds was waiting", "too slow to read", "too slow to read", true},
	{CloseHandshakeTimeout, "handshake_timeout", "no Hello within 10 s", "handshake timeout", "handshake timeout", true},
	{CloseUnauthorized, "unauthorized", "unknown device, wrong proof or dead credential: which one is not told", "unauthorized", "unauthorized", false},
	{CloseDisabled, "disabled", "an operator has disabled the device; told only after a valid proof", "disabled", "disabled by an operator", false},
	{CloseUnsupportedVersion, "unsupported_version", "the first frame is none that this hub knows", "unsupported version", "unsupported version", false},
}

// NumCloseCodes is the number of rows in the table.
const NumCloseCodes = len(closeTable)

// CloseCodes returns a copy of the table, in the order of the codes.
func CloseCodes() []CloseInfo { return append([]CloseInfo(nil), closeTable[:]...) }

// Info of a code; that of CloseLost for a code the table does not have.
func (c CloseCode) Info() CloseInfo { return closeTable[c.index()] }

// String is the number and the name.
func (c CloseCode) String() string {
	return strconv.Itoa(int(c)) + " " + c.Info().Name
}

// index of the code's row.
func (c CloseCode) index() int {
	lost := 0
	for i := range closeTable {
		switch closeTable[i].Code {
		case c:
			return i
		case CloseLost:
			lost = i
		}
	}
	return lost
}

// graceful reports whether the session settles what is in flight before it
// closes.
func (c CloseCode) graceful() bool { return c == CloseShutdown || c == CloseDraining }
