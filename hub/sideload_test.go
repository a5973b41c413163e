package hub_test

import (
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// sideLoad is the load of firmware-sim for what is compared with the hub: the
// same rows, as many connections, the same times.
type sideLoad struct {
	For          time.Duration
	Rate         float64 // rows a second of all devices together; 0: as fast as the other side takes them
	RowsPerFrame int
	Fields       int
}

// sideResult is what a sideLoad has measured.
type sideResult struct {
	Rows    int64
	Began   time.Time
	Seconds float64 // until the other side had taken the last one
	// AckP50 and AckP99 are from when a frame was due, or was sent where
	// there is no rate; 0: nothing is acknowledged.
	AckP50, AckP99 time.Duration
}

// sideSender is one device's way to send. Its methods are called by one
// goroutine.
type sideSender interface {
	// send a frame, counted from 0, that was due then.
	send(frame int, due time.Time) error
	// end waits until all is taken and returns how long acknowledgements
	// took.
	end() ([]time.Duration, error)
}

// period between the frames of a device; 0: none.
func (l *sideLoad) period(devices int) time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return time.Duration(float64(time.Second) * float64(l.RowsPerFrame*devices) / l.Rate)
}

// step between rows, as a load of firmware-sim has it.
func (l *sideLoad) step(devices int) time.Duration {
	if l.Rate == 0 {
		return 10 * time.Microsecond
	}
	return l.period(devices) / time.Duration(l.RowsPerFrame)
}

// run has every device send until the time is over.
func (l *sideLoad) run(devices int, open func(i int) (sideSender, error)) (r sideResult, err error) {
	senders := make([]sideSender, devices)
	for i := range senders {
		if senders[i], err = open(i); err != nil {
			return r, err
		}
	}
	r.Began = time.Now().Add(10 * time.Millisecond)
	period := l.period(devices)
	var mu sync.Mutex
	var took []time.Duration
	var sending errgroup.Group
	for i, s := range senders {
		sending.Go(func() error {
			first := r.Began.Add(time.Duration(float64(period) * float64(i) / float64(devices)))
			frames, err := l.send(s, first, period, r.Began.Add(l.For))
			if err != nil {
				return err
			}
			acks, err := s.end()
			mu.Lock()
			defer mu.Unlock()
			r.Rows += int64(frames * l.RowsPerFrame)
			took = append(took, acks...)
			return err
		})
	}
	if err := sending.Wait(); err != nil {
		return r, err
	}
	r.Seconds = time.Since(r.Began).Seconds()
	r.AckP50, r.AckP99 = quantile(took, 50), quantile(took, 99)
	return r, nil
}

// send what is due from first on, and return how many frames that were.
func (l *sideLoad) send(s sideSender, first time.Time, period time.Duration, end time.Time) (frames int, err error) {
	time.Sleep(time.Until(first))
	for ; ; frames++ {
		due := time.Now()
		if period > 0 {
			due = first.Add(time.Duration(frames) * period)
			time.Sleep(time.Until(due))
		}
		if !due.Before(end) {
			return frames, nil
		}
		if err := s.send(frames, due); err != nil {
			return frames, err
		}
	}
}

// bareSender sends frames of a device to a bareServer.
type bareSender struct {
	ws    *websocket.Conn
	frame []byte
}

func (s bareSender) send(int, time.Time) error {
	return s.ws.WriteMessage(websocket.BinaryMessage, s.frame)
}

// end waits for the pong: what came before the ping has been read by then.
func (s bareSender) end() ([]time.Duration, error) {
	answered := false
	s.ws.SetPongHandler(func(string) error {
		answered = true
		return s.ws.SetReadDeadline(time.Now()) // the next read returns
	})
	if err := s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	_ = s.ws.SetReadDeadline(time.Now().Add(time.Minute))
	if _, _, err := s.ws.NextReader(); err != nil && !answered {
		return nil, err
	}
	return nil, nil
}
