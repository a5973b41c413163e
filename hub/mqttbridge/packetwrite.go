package mqttbridge

import (
	"errors"
	"net"
	"time"
)

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
	c.append(p)
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

// acknowledge sends packets that acknowledge messages. It never waits.
func (c *packetConn) acknowledge(packets []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return // the broker sends those messages again
	}
	if len(c.unwritten)+len(packets) > maxUnwritten+maxAcks {
		c.err = errDeaf
		_ = c.Conn.Close()
		c.changed.Broadcast()
		return
	}
	c.append(packets)
}

// errDeaf: it would be more than one for each packet identifier.
var errDeaf = errors.New("the broker does not read its acknowledgements")

func (c *packetConn) append(p []byte) {
	c.unwritten = append(c.unwritten, p...)
	if !c.writing {
		c.writing = true
		go c.flush()
	}
}

// written reports whether all has gone out, or never will.
func (c *packetConn) written() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writing || c.err != nil
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
