package mqttbridge

import (
	"bufio"
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
	maxOther     = 1 << 20 // bytes of a packet that is no PUBLISH
	maxUnwritten = 256 << 10
	readBuffer   = 32 << 10
	closePause   = 500 * time.Millisecond // for the last packets to go out
)

var errNotMQTT = errors.New("the broker sends bytes that are no MQTT")

// packetConn is a connection to a broker that bounds what a packet takes in
// memory: the client reads a packet as a whole, whatever length it claims.
// Of a PUBLISH whose payload is over profile.MaxPayloadBytes it lets one byte
// more than that through, and the rest disappears.
//
// It reads ahead, and writes many small packets at once: a Write returns when
// the bytes are taken, and waits only while maxUnwritten bytes wait, besides
// those that are being written.
// What cannot be written within writeTimeout ends the connection.
type packetConn struct {
	net.Conn

	// The reader's.
	in     *bufio.Reader
	urgent *atomic.Bool // while true nothing is gathered; nil: always
	last   time.Time    // when something was read
	alone  int          // reads before it is worth while to gather again
	out    []byte       // to be handed out first
	pass   int          // bytes of in to be handed out after that
	skip   int          // bytes of in that disappear then

	mu        sync.Mutex
	changed   sync.Cond
	unwritten []byte
	spare     []byte // empty, to be filled next
	writing   bool
	err       error
}

func newPacketConn(inner net.Conn) *packetConn {
	c := &packetConn{Conn: inner, in: bufio.NewReaderSize(inner, readBuffer)}
	c.changed.L = &c.mu
	return c
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
	if first>>4 != publishType {
		if length > maxOther {
			return fmt.Errorf("%w: a packet of %d bytes", errNotMQTT, length)
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
// for several of them: in a steady flow it waits up to readGather for more,
// in steps of readStep, and not once nothing more has come. The time of
// arrival is that much later.
const (
	readGather  = 4 * time.Millisecond
	readStep    = 2 * time.Millisecond
	readLook    = 200 * time.Microsecond
	steadyPause = 20 * time.Millisecond // after a longer one nothing is gathered
	aloneReads  = 16                    // without gathering, where it brought nothing
)

// await reads what comes next, and gathers.
func (c *packetConn) await() error {
	if _, err := c.in.Peek(1); err != nil {
		return err
	}
	now := time.Now()
	steady := now.Sub(c.last) < steadyPause
	c.last = now
	switch {
	case c.urgent == nil || !steady || c.urgent.Load():
		return nil
	case c.alone > 0:
		c.alone--
		return nil
	}
	first := c.in.Buffered()
	for c.in.Buffered() < readBuffer/2 && time.Since(now) < readGather {
		time.Sleep(readStep)
		_ = c.Conn.SetReadDeadline(time.Now().Add(readLook))
		if _, err := c.in.Peek(c.in.Buffered() + 1); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return nil // what has come first; the error comes again
			}
			break
		}
	}
	if c.in.Buffered() == first {
		c.alone = aloneReads
	}
	c.last = time.Now()
	return c.Conn.SetReadDeadline(time.Time{})
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

// Write implements net.Conn.
func (c *packetConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.unwritten) >= maxUnwritten && c.err == nil {
		c.changed.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.unwritten = append(c.unwritten, p...)
	if !c.writing {
		c.writing = true
		go c.flush()
	}
	return len(p), nil
}

// flush writes until nothing is left.
func (c *packetConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.unwritten) > 0 && c.err == nil {
		batch := c.unwritten
		c.unwritten, c.spare = c.spare[:0], nil
		c.changed.Broadcast() // there is room again
		c.mu.Unlock()
		_ = c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := c.Conn.Write(batch)
		if err != nil {
			_ = c.Conn.Close() // wakes the reader
		}
		c.mu.Lock()
		if cap(batch) <= maxUnwritten {
			c.spare = batch[:0]
		}
		if err != nil && c.err == nil {
			c.err = err
		}
		c.changed.Broadcast()
	}
	c.writing = false
	c.changed.Broadcast()
}

// Close implements net.Conn. It gives what was written a moment to go out.
func (c *packetConn) Close() error {
	late := time.AfterFunc(closePause, func() { _ = c.Conn.Close() })
	defer late.Stop()
	c.mu.Lock()
	for c.writing && c.err == nil {
		c.changed.Wait()
	}
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

// SetDeadline sets that of reading alone: writing has its own.
func (c *packetConn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writing has its own.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }
