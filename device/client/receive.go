package client

import (
	"fmt"
	"time"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// readAll reads and obeys frames until the session ends.
func (s *session) readAll() error {
	for {
		frame, err := s.read()
		if err != nil {
			return err
		}
		s.alive()
		s.c.mu.Lock()
		s.c.stats.BytesReceived += uint64(len(s.buf))
		s.c.mu.Unlock()
		if err := s.obey(frame); err != nil {
			return err
		}
	}
}

// obey acts on one frame. Frames that this client does not know are ignored.
func (s *session) obey(frame *devicev1.HubFrame) error {
	c := s.c
	switch f := frame.Frame.(type) {
	case *devicev1.HubFrame_Ack:
		var err error
		if s.acks, err = c.acknowledge(f.Ack.Seq, s.acks[:0]); err != nil {
			return err
		}
		if len(s.acks) > 0 {
			s.settle()
		}
		c.reportAcks(s.acks)
		if cap(s.acks) > 64 {
			s.acks = nil
		}
	case *devicev1.HubFrame_Reject:
		return s.rejected(f.Reject)
	case *devicev1.HubFrame_Throttle:
		return c.throttle(time.Duration(f.Throttle.PauseMs)*time.Millisecond, f.Throttle.ResumeSeq)
	case *devicev1.HubFrame_Renew:
		return s.renew(f.Renew)
	case *devicev1.HubFrame_Command:
		c.executor.command(f.Command)
	case *devicev1.HubFrame_CommandCancel:
		c.executor.cancel(f.CommandCancel.Id)
	case *devicev1.HubFrame_CommandAck:
		c.executor.acknowledge(f.CommandAck.Id)
	case *devicev1.HubFrame_Challenge, *devicev1.HubFrame_Welcome:
		return fmt.Errorf("%w: a second handshake", ErrProtocol)
	}
	return nil
}

func (s *session) rejected(r *devicev1.Reject) error {
	c := s.c
	rows, err := c.reject(r)
	if err != nil || rows == 0 {
		return err
	}
	c.log.Warn("hub rejects readings", "device", c.id, "rows", rows, "code", r.Code.String(), "detail", r.Detail)
	if c.cfg.OnReject != nil {
		c.cfg.OnReject(Rejection{Rows: rows, Code: r.Code, Detail: r.Detail})
	}
	return nil
}

func (c *Client) reportAcks(done []settled) {
	if c.cfg.OnAck == nil {
		return
	}
	for _, d := range done {
		c.cfg.OnAck(d.rows, d.latency)
	}
}
