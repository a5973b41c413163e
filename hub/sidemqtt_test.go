package hub_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// mqttDevices connect to a broker, each over TLS of its own, and send rows as
// JSON at QoS 1. They are as small as can be, so that what is measured is the
// broker.
type mqttDevices struct {
	Addr    string
	CA      []byte
	Devices int
	Load    *sideLoad // nil: connect, send Frames, and hold still
	Frames  int
}

// mqttWindow is how many messages a device has in flight: as many as a hub
// lets it have frames.
const mqttWindow = 64

// mqttDevicesRole says "connected", and then what it has measured, or without
// a load "settled".
func mqttDevicesRole(argument string) error {
	var a mqttDevices
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	senders, err := a.dial()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	input := bufio.NewReader(os.Stdin)
	if err := say(input, "connected"); err != nil {
		return err
	}
	if a.Load != nil {
		result, err := a.Load.run(a.Devices, func(i int) (sideSender, error) { return senders[i], nil })
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	for frame := range a.Frames {
		for _, s := range senders {
			if err := s.send(frame, time.Now()); err != nil {
				return err
			}
		}
	}
	for _, s := range senders {
		if err := s.drain(); err != nil {
			return err
		}
	}
	_ = say(input, "settled")
	for _, s := range senders {
		_ = s.conn.Close()
	}
	return nil
}

func (a *mqttDevices) dial() ([]*mqttSender, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CA)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
	load := a.Load
	if load == nil {
		load = &sideLoad{RowsPerFrame: 1, Fields: 10}
	}
	senders := make([]*mqttSender, a.Devices)
	var dialling errgroup.Group
	dialling.SetLimit(64)
	for i := range senders {
		dialling.Go(func() (err error) {
			senders[i], err = dialMQTT(a.Addr, config, i, load, load.step(a.Devices))
			return err
		})
	}
	return senders, dialling.Wait()
}

// mqttSender is a device of a broker.
type mqttSender struct {
	conn  *tls.Conn
	index int
	load  *sideLoad
	step  time.Duration // between rows
	epoch time.Time     // of the first row
	buf   []byte
	room  chan struct{} // has a token for each message in flight
	read  chan struct{} // closed when nothing more is read

	mu     sync.Mutex
	due    []time.Time // of messages in flight, the oldest first
	took   []time.Duration
	failed error
}

// What is needed of MQTT 3.1.1, section 2.2 and 3.
const (
	mqttConnect      = 0x10
	mqttConnAck      = 0x20
	mqttPublishQoS1  = 0x32
	mqttPubAck       = 0x40
	mqttLevel        = 4
	mqttCleanSession = 0x02
)

func dialMQTT(addr string, config *tls.Config, index int, load *sideLoad, step time.Duration) (*mqttSender, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", addr, config)
	if err != nil {
		return nil, err
	}
	id := firmwaresim.LoadID("load", index+1)
	hello := append([]byte{mqttConnect, byte(12 + len(id)), 0, 4}, "MQTT"...)
	hello = append(hello, mqttLevel, mqttCleanSession, 0, 0) // no keep-alive
	hello = append(binary.BigEndian.AppendUint16(hello, uint16(len(id))), id...)
	answer := make([]byte, 4)
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	if answer[0] != mqttConnAck || answer[3] != 0 {
		return nil, fmt.Errorf("the broker answers % x", answer)
	}
	s := &mqttSender{
		conn: conn, index: index, load: load, step: step, epoch: time.Now(),
		room: make(chan struct{}, mqttWindow), read: make(chan struct{}),
	}
	go s.acknowledged()
	return s, nil
}

// acknowledged reads answers, which come in the order of the messages.
func (s *mqttSender) acknowledged() {
	defer close(s.read)
	in := bufio.NewReaderSize(s.conn, 256)
	answer := make([]byte, 4)
	for {
		_, err := io.ReadFull(in, answer)
		if err == nil && answer[0] != mqttPubAck {
			err = fmt.Errorf("the broker says % x", answer)
		}
		s.mu.Lock()
		if err != nil {
			s.failed = err
			s.mu.Unlock()
			return
		}
		s.took = append(s.took, time.Since(s.due[0]))
		s.due = s.due[1:]
		s.mu.Unlock()
		<-s.room
	}
}

func (s *mqttSender) send(frame int, due time.Time) error {
	select {
	case s.room <- struct{}{}:
	case <-s.read:
		return s.failure()
	}
	s.mu.Lock()
	s.due = append(s.due, due)
	s.mu.Unlock()
	_, err := s.conn.Write(s.message(frame))
	return err
}

func (s *mqttSender) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// message is the rows of a frame as firmware-sim makes them, with times in
// microseconds: Telegraf reads them as doubles, which cannot tell nanoseconds
// apart.
func (s *mqttSender) message(frame int) []byte {
	const head = 5 // room for the fixed header
	b := append(s.buf[:0], make([]byte, head)...)
	topic := "side/" + firmwaresim.LoadID("load", s.index+1) + "/state"
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(topic))), topic...)
	b = binary.BigEndian.AppendUint16(b, uint16(frame%0xffff)+1)
	if s.load.RowsPerFrame > 1 {
		b = append(b, '[')
	}
	for i := range s.load.RowsPerFrame {
		if i > 0 {
			b = append(b, ',')
		}
		row := uint64(frame*s.load.RowsPerFrame + i)
		b = strconv.AppendInt(append(b, `{"t":`...), s.epoch.Add(time.Duration(row)*s.step).UnixMicro(), 10)
		for f := range s.load.Fields {
			b = strconv.AppendInt(append(b, `,"f`...), int64(f), 10)
			b = strconv.AppendFloat(append(b, `":`...), firmwaresim.LoadValue(s.index, row, f), 'f', -1, 64)
		}
		b = append(b, '}')
	}
	if s.load.RowsPerFrame > 1 {
		b = append(b, ']')
	}
	s.buf = b
	length := binary.AppendUvarint(nil, uint64(len(b)-head)) // MQTT has the same form
	start := head - 1 - len(length)
	b[start] = mqttPublishQoS1
	copy(b[start+1:], length)
	return b[start:]
}

// drain waits until nothing is in flight.
func (s *mqttSender) drain() error {
	for range mqttWindow {
		select {
		case s.room <- struct{}{}:
		case <-s.read:
			return s.failure()
		case <-time.After(time.Minute):
			return errors.New("the broker does not acknowledge")
		}
	}
	for range mqttWindow {
		<-s.room
	}
	return nil
}

func (s *mqttSender) end() ([]time.Duration, error) {
	if err := s.drain(); err != nil {
		return nil, err
	}
	_ = s.conn.Close()
	<-s.read
	return s.took, nil
}
