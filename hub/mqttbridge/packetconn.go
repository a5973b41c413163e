package mqttbridge

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// Bounds of packets on the wire (MQTT 3.1.1, section 2.2).
const (
	publishType  = 3       // high four bits of the first byte
	connackHead  = 0x20    // of a CONNACK (MQTT 3.1.1, section 3.2)
	connackRest  = 2       // bytes after that; the last one is 0 where it lets the client in
	maxOther     = 1 << 20 // bytes of a packet that is no PUBLISH
	maxUnwritten = 256 << 10
	maxAcks      = 4 << 16 // bytes: one for each packet identifier
	readBuffer   = 64 << 10
	closePause   = 500 * time.Millisecond // for the last packets to go out
)

var errNotMQTT = errors.New("the broker sends bytes that are no MQTT")

// packetConn is a connection to a broker that bounds what a packet takes in
// memory: the client reads a packet as a whole, whatever length it claims.
// Of a PUBLISH whose payload is over profile.MaxPayloadBytes it lets one byte
// more than that through, and the rest disappears.
//
// With take, the messages of QoS 0 and 1 never reach the client, which hands
// each through five goroutines: those that one read has brought are taken at
// once, and acknowledged at once.
//
// It reads ahead, and writes many small packets at once: a Write returns when
// the bytes are taken, and waits only while maxUnwritten bytes wait, besides
// those that are being written.
// What cannot be written within writeTimeout ends the connection.
type packetConn struct {
	net.Conn

	// The reader's.
	in       *bufio.Reader // of reader
	urgent   *atomic.Bool  // while true nothing is gathered; nil: always
	last     time.Time     // when something was read
	steady   bool          // it comes often enough to be gathered
	looking  bool          // for what has come, without waiting for more
	lowWater int           // bytes that wake the runtime's poller
	pieces   bool          // a read brings less than has come: one record of TLS
	looked   bool          // what is in the batch was gathered
	alone    int           // reads before it is worth while to gather again
	out      []byte        // to be handed out first
	pass     int           // bytes of in to be handed out after that
	skip     int           // bytes of in that disappear then

	// take gets the messages; nil: the client does. full: the broker may
	// wait for acknowledgements before it sends more.
	take func(batch []*arrival) (full bool)
	// fills reports whether the broker may wait for acknowledgements when so
	// many messages more are taken. nil: nothing waits here.
	fills func(messages int) bool
	let   bool // the broker has let the client in: before that it may send no message
	full  bool
	// wanted says of which topics the messages are of use. Of others those of
	// QoS 1, which want to be acknowledged, are taken without their payload, and
	// those of QoS 0 are not. nil: all are of use.
	wanted func(topic string) bool
	// owned: the broker is the hub's own. It sends all that is retained at once,
	// keeps it whether it is acknowledged or not, sends it again with the next
	// subscription alone, and holds messages up as long as it waits for its
	// acknowledgements: it gets them as soon as it is read.
	owned    bool
	retained atomic.Int64 // messages of QoS 1 that were acknowledged so, until they are looked at
	acks     []byte       // to be sent
	batch    []*arrival   // not taken yet
	bytes    int          // that those take in memory
	came     int          // messages in the batch since the last await
	room     []arrival    // for the next ones
	name     []byte       // scratch
	known    map[string]string

	mu        sync.Mutex
	changed   sync.Cond
	unwritten []byte
	spare     []byte // empty, to be filled next
	writing   bool
	err       error
}

func newPacketConn(inner net.Conn) *packetConn {
	c := &packetConn{Conn: inner, lowWater: 1}
	_, c.pieces = inner.(*tls.Conn)
	c.in = bufio.NewReaderSize(reader{c}, readBuffer)
	c.changed.L = &c.mu
	return c
}

// reader is the network below a packetConn's buffer. What has come is taken
// before it waits for more.
type reader struct{ c *packetConn }

func (r reader) Read(p []byte) (int, error) {
	if !r.c.looking {
		r.c.deliver()
		r.c.wake(1)
	}
	n, err := r.c.Conn.Read(p)
	r.c.last = time.Now()
	return n, err
}

// Read implements net.Conn.
func (c *packetConn) Read(p []byte) (int, error) {
	for {
		switch {
		case len(c.out) > 0:
			n := copy(p, c.out)
			c.out = c.out[n:]
			return n, nil
		case c.pass > 0:
			n, err := c.in.Read(p[:min(len(p), c.pass)])
			c.pass -= n
			return n, err
		case c.skip > 0:
			n, err := c.in.Discard(c.skip)
			c.skip -= n
			if err != nil {
				return 0, err
			}
		default:
			if err := c.next(); err != nil {
				c.deliver()
				return 0, err
			}
		}
	}
}

// next reads the head of a packet.
func (c *packetConn) next() error {
	if c.in.Buffered() == 0 {
		if err := c.await(); err != nil {
			return err
		}
	}
	first, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	length, err := c.length()
	if err != nil {
		return err
	}
	if first>>4 == publishType && c.take != nil && first&0x06 < 2<<1 {
		return c.message(first, length)
	}
	c.deliver() // what comes before it
	if first>>4 != publishType {
		if length > maxOther {
			return fmt.Errorf("%w: a packet of %d bytes", errNotMQTT, length)
		}
		if first == connackHead && length == connackRest {
			answer, err := c.in.Peek(connackRest)
			if err != nil {
				return unexpected(err)
			}
			c.let = answer[1] == 0
		}
		c.out, c.pass = binary.AppendUvarint(append(c.out[:0], first), uint64(length)), length
		return nil
	}
	topic, err := c.in.Peek(2)
	if err != nil {
		return err
	}
	most := 2 + int(binary.BigEndian.Uint16(topic)) + profile.MaxPayloadBytes + 1
	if first&0x06 != 0 {
		most += 2 // the packet identifier of QoS 1 and 2
	}
	kept := min(length, most)
	c.out = binary.AppendUvarint(append(c.out[:0], first), uint64(kept))
	c.pass, c.skip = kept, length-kept
	return nil
}

// Gathering by the reader, so that one wake-up of all who handle messages is
// for several of them: in a steady flow it looks every readGather for all that
// has come, and waits for the next byte as soon as that was one message or
// none. The time of arrival is up to readGather later. What a look has brought
// waits here for that of the next ones, up to holdTime, unless the broker may
// wait for its acknowledgement.
const (
	readGather = 10 * time.Millisecond
	holdTime   = 4 * readGather
	readLook   = 200 * time.Microsecond
	steadyGap  = 5 * time.Millisecond // between reads, at most
	aloneReads = 16                   // without gathering, where it brought nothing
	mostLooked = 512 << 10            // bytes in memory that wait here, or are taken together, of many records
)

// await reads what comes next, and gathers.
func (c *packetConn) await() error {
	if c.looked && c.pieces && c.bytes < mostLooked {
		if came, err := c.look(); came {
			return err
		}
	}
	if c.looked && c.came == 1 {
		c.steady, c.alone = false, aloneReads
	}
	if !c.holds() {
		c.deliver() // which says whether the broker waits
	}
	c.came = 0
	before := c.last
	c.looked = false
	if c.gathers() {
		c.wake(readBuffer / 2)
		time.Sleep(readGather)
		if came, err := c.look(); came {
			c.looked = true
			return err
		}
		c.steady = false
	}
	if _, err := c.in.Peek(1); err != nil {
		return err
	}
	if c.alone > 0 {
		c.alone--
	} else {
		c.steady = c.last.Sub(before) < steadyGap
	}
	return nil
}

// gathers reports whether it looks later for what comes next.
func (c *packetConn) gathers() bool {
	return c.steady && !c.full && c.urgent != nil && !c.urgent.Load()
}

// holds reports whether the batch waits for what the next look brings.
func (c *packetConn) holds() bool {
	return c.looked && len(c.batch) > 0 && len(c.acks) == 0 && c.gathers() &&
		c.last.Sub(c.batch[0].received) < holdTime && c.bytes < mostLooked && c.fills != nil && !c.fills(len(c.batch))
}

// look reads what has come, if something has, or the end.
func (c *packetConn) look() (came bool, err error) {
	c.looking = true
	_ = c.Conn.SetReadDeadline(time.Now().Add(readLook))
	_, err = c.in.Peek(1)
	_ = c.Conn.SetReadDeadline(time.Time{})
	c.looking = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	return true, err
}

// wake the runtime's poller when so many bytes have come.
func (c *packetConn) wake(bytes int) {
	if c.lowWater != bytes {
		c.lowWater = bytes
		setLowWater(c.Conn, bytes)
	}
}

// length reads a remaining length: up to four bytes, the same as a uvarint.
func (c *packetConn) length() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: a length of over four bytes", errNotMQTT)
}
