package natsd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// maxConnectBytes bounds a CONNECT packet: client id, will, user, password.
const maxConnectBytes = 16 << 10

// maxClientID bounds a client id, in bytes. MQTT 3.1.1 promises 23.
const maxClientID = 256

// Return codes of CONNACK, MQTT 3.1.1 section 3.2.2.3; zero is success.
const (
	refusedVersion     = 1
	refusedID          = 2
	refusedUnavailable = 3
	refusedPassword    = 4
)

// Bits of the connect flags, MQTT 3.1.1 section 3.1.2.3.
const (
	flagReserved    = 0x01
	flagClean       = 0x02
	flagWill        = 0x04
	flagPassword    = 0x40
	flagUser        = 0x80
	flagsOfIdentity = flagUser | flagPassword
)

const (
	packetConnect = 0x10
	packetConnack = 0x20
)

// mqttConnect is a CONNECT packet of MQTT 3.1.1, or of 3.1, which differs
// only in its name. Where it has no user, User is "".
type mqttConnect struct {
	flags       byte
	keepAlive   [2]byte
	ClientID    string
	willTopic   []byte
	willMessage []byte
	User        string
	Password    []byte
}

// refusal is an error that the client is told by a return code of CONNACK.
type refusal byte

func (r refusal) Error() string { return fmt.Sprintf("refused with return code %d", byte(r)) }

func (r refusal) packet() []byte { return []byte{packetConnack, 2, 0, byte(r)} }

var errMalformed = errors.New("malformed CONNECT packet")

// readConnect reads no byte behind the packet.
func readConnect(r io.Reader) (*mqttConnect, error) {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	if b[0] != packetConnect {
		return nil, errMalformed
	}
	length := 0
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		length |= int(b[0]&0x7f) << shift
		if length > maxConnectBytes || shift > 14 {
			return nil, errMalformed
		}
		if b[0]&0x80 == 0 {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return parseConnect(body)
}

func parseConnect(body []byte) (*mqttConnect, error) {
	p := parser{rest: body}
	name := string(p.field())
	level := p.bytes(1)
	c := &mqttConnect{}
	if flags := p.bytes(1); flags != nil {
		c.flags = flags[0]
	}
	copy(c.keepAlive[:], p.bytes(2))
	switch {
	case p.failed:
		return nil, errMalformed
	case name == "MQTT" && level[0]&0x7f == 4, name == "MQIsdp" && level[0]&0x7f == 3: // the high bit marks a bridge
	case name == "MQTT":
		return nil, refusal(refusedVersion)
	default:
		return nil, errMalformed
	}
	c.ClientID = string(p.field())
	if c.flags&flagWill != 0 {
		c.willTopic, c.willMessage = p.field(), p.field()
	}
	if c.flags&flagUser != 0 {
		c.User = string(p.field())
	}
	if c.flags&flagPassword != 0 {
		c.Password = p.field()
	}
	switch {
	case p.failed, len(p.rest) > 0, c.flags&flagReserved != 0, c.flags&flagsOfIdentity == flagPassword:
		return nil, errMalformed
	case len(c.ClientID) > maxClientID, !plainText(c.ClientID):
		return nil, refusal(refusedID)
	case !plainText(c.User):
		return nil, refusal(refusedPassword)
	}
	return c, nil
}

// plainText is what MQTT 3.1.1 section 1.5.3 lets a string be.
func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// as is the packet in the form of MQTT 3.1.1 with another identity.
func (c *mqttConnect) as(clientID, user, password string) []byte {
	body := appendField(nil, "MQTT")
	body = append(body, 4, c.flags|flagsOfIdentity)
	body = append(body, c.keepAlive[:]...)
	body = appendField(body, clientID)
	if c.flags&flagWill != 0 {
		body = appendField(body, c.willTopic)
		body = appendField(body, c.willMessage)
	}
	body = appendField(body, user)
	body = appendField(body, password)
	packet := []byte{packetConnect}
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			packet = append(packet, byte(n))
			break
		}
		packet = append(packet, byte(n)|0x80)
	}
	return append(packet, body...)
}

// patience is how long the client may be silent (MQTT 3.1.1 section 3.1.2.10);
// 0: for ever.
func (c *mqttConnect) patience() time.Duration {
	return time.Duration(binary.BigEndian.Uint16(c.keepAlive[:])) * time.Second * 3 / 2
}

func appendField[T string | []byte](b []byte, field T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// sessionName is the client id that the server knows the client by: every
// user has client ids of its own, so that nobody takes over another's
// session, and the characters that the server refuses are escaped. No two
// clients of different user or id have the same. Without a client id there is
// none: the server makes one up.
func sessionName(user, clientID string) string {
	if clientID == "" {
		return ""
	}
	return string(appendEscaped(append(appendEscaped(nil, user), '~'), clientID))
}

func appendEscaped(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b = append(b, c)
		default:
			b = fmt.Appendf(b, "=%02X", c)
		}
	}
	return b
}

// parser takes fields off a packet. After a failure it gives empty ones.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) bytes(n int) []byte {
	if p.failed || len(p.rest) < n {
		p.failed = true
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

// field is one with its length before it.
func (p *parser) field() []byte {
	length := p.bytes(2)
	if p.failed {
		return nil
	}
	return p.bytes(int(binary.BigEndian.Uint16(length)))
}
