package mqttbridge

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

const (
	pubackHead = 0x40 // of a PUBACK (MQTT 3.1.1, section 3.4)
	pubackRest = 2    // bytes after that
	arrivals   = 32   // are allocated together
	maxNames   = 4096 // topics that are remembered, so that they cost no allocation
	maxName    = 256  // bytes of one
)

// message reads a PUBLISH of QoS 0 or 1, behind its length (MQTT 3.1.1,
// section 3.3).
func (c *packetConn) message(first byte, length int) error {
	if !c.let {
		return fmt.Errorf("%w: a message before it has let the hub in", errNotMQTT)
	}
	name, err := c.field(&length)
	if err != nil {
		return err
	}
	topic := c.topic(name)
	if len(c.room) == 0 {
		c.room = make([]arrival, arrivals)
	}
	a := &c.room[0]
	*a = arrival{topic: topic, retained: first&0x01 != 0, received: c.last}
	if first&0x06 != 0 {
		if length -= 2; length < 0 {
			return fmt.Errorf("%w: a PUBLISH ends before its identifier", errNotMQTT)
		}
		id, err := c.in.Peek(2)
		if err != nil {
			return unexpected(err)
		}
		a.id, a.dup = binary.BigEndian.Uint16(id), first&0x08 != 0
		_, _ = c.in.Discard(2)
		if c.owned && a.retained {
			c.acks = append(c.acks, pubackHead, pubackRest, byte(a.id>>8), byte(a.id))
			c.retained.Add(1)
			a.id, a.kept = 0, true
		}
	}
	wanted := c.wanted == nil || c.wanted(topic)
	if wanted {
		a.payload = make([]byte, min(length, profile.MaxPayloadBytes+1))
	}
	if _, err := io.ReadFull(c.in, a.payload); err != nil {
		return unexpected(err)
	}
	if _, err := c.in.Discard(length - len(a.payload)); err != nil {
		return unexpected(err)
	}
	if !wanted && a.id == 0 {
		return nil
	}
	c.room, c.batch = c.room[1:], append(c.batch, a)
	c.came++
	c.bytes += len(a.topic) + len(a.payload) + arrivalBytes
	return nil
}

// field reads a string of a packet of which so much is left. It is good until
// the next one.
func (c *packetConn) field(left *int) ([]byte, error) {
	if *left -= 2; *left < 0 {
		return nil, fmt.Errorf("%w: a PUBLISH without a topic", errNotMQTT)
	}
	head, err := c.in.Peek(2)
	if err != nil {
		return nil, unexpected(err)
	}
	n := int(binary.BigEndian.Uint16(head))
	_, _ = c.in.Discard(2)
	if *left -= n; *left < 0 {
		return nil, fmt.Errorf("%w: a topic that is longer than its packet", errNotMQTT)
	}
	if cap(c.name) < n {
		c.name = make([]byte, max(n, maxName))
	}
	_, err = io.ReadFull(c.in, c.name[:n])
	return c.name[:n], unexpected(err)
}

// topic is a name as a string: that of the last time, for the same gear sends
// to the same topics again and again.
func (c *packetConn) topic(name []byte) string {
	if known, ok := c.known[string(name)]; ok {
		return known
	}
	topic := string(name)
	if len(name) > maxName {
		return topic
	}
	if c.known == nil || len(c.known) >= maxNames {
		c.known = make(map[string]string)
	}
	c.known[topic] = topic
	return topic
}

// unexpected is the error of a packet that is cut off.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// deliver has what has come taken.
func (c *packetConn) deliver() {
	if len(c.acks) > 0 {
		c.acknowledge(c.acks)
		c.acks = c.acks[:0]
	}
	if len(c.batch) == 0 {
		return
	}
	c.full = c.take(c.batch)
	clear(c.batch)
	c.batch, c.bytes = c.batch[:0], 0
}

// fromClient is a message that the client has read: one of QoS 2, which the
// hub asks for nowhere, but an older session may have.
func fromClient(m mqtt.Message) *arrival {
	return &arrival{
		topic: m.Topic(), payload: m.Payload(), retained: m.Retained(), received: time.Now(),
		id: m.MessageID(), dup: m.Duplicate(), paho: m,
	}
}

// acknowledge messages, in their order, on the sessions that they came from.
func acknowledge(settled []*arrival) {
	var packets []byte
	var to *link
	flush := func() {
		if len(packets) > 0 {
			to.conn.acknowledge(packets)
			packets = packets[:0]
		}
	}
	for _, a := range settled {
		switch {
		case a.id == 0:
		case a.paho != nil:
			a.session.acks.send(a.paho)
		default:
			if to != a.session {
				flush()
				to = a.session
			}
			packets = append(packets, pubackHead, pubackRest, byte(a.id>>8), byte(a.id))
		}
	}
	flush()
}
