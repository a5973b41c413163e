package session

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/hub/registry"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// maxDescribes a session: each may be a durable write.
const maxDescribes = 4

// Bounds of a description.
const (
	maxDescribedCommands  = 256
	maxDescribedArguments = 64
	maxUnitBytes          = 32
)

// describe stores what the device tells of itself, where that is new. A
// description that breaks a rule is left out and logged: it is no reason to
// refuse the device's readings.
func (s *Session) describe(ctx context.Context, body []byte) {
	s.describes++
	if s.describes > maxDescribes {
		return
	}
	if err := CheckDescribe(body); err != nil {
		s.deps.Logger.Warn("description of a device is not usable", "device", s.id, "error", err)
		return
	}
	if dev, ok := s.deps.Registry.Get(s.id); ok && bytes.Equal(dev.Describe, body) {
		return
	}
	kept := bytes.Clone(body)
	err := s.call(ctx, func(ctx context.Context) error {
		_, err := s.deps.Registry.Update(ctx, s.id, func(d *registry.Device) error {
			d.Describe = kept
			return nil
		})
		return err
	})
	if err != nil {
		s.deps.Logger.Warn("description of a device could not be stored", "device", s.id, "error", err)
		return
	}
	s.deps.Metrics.Describes.Add(1)
}

// CheckDescribe returns what is wrong with an encoded Describe message.
func CheckDescribe(body []byte) error {
	if len(body) > MaxDescribeBytes {
		return fmt.Errorf("%d bytes; at most %d", len(body), MaxDescribeBytes)
	}
	d := new(devicev1.Describe)
	if err := proto.Unmarshal(body, d); err != nil {
		return fmt.Errorf("decode: %w", err) // also where text is not UTF-8
	}
	if len(d.GetFields()) > telemetry.MaxFields || len(d.GetCommands()) > maxDescribedCommands {
		return fmt.Errorf("%d fields and %d commands; at most %d of each",
			len(d.GetFields()), len(d.GetCommands()), telemetry.MaxFields)
	}
	for _, f := range d.GetFields() {
		if !validName(f.GetName(), false) || f.GetMeasurement() != "" && !validName(f.GetMeasurement(), false) {
			return fmt.Errorf("field %.80q of %.80q: bad name", f.GetName(), f.GetMeasurement())
		}
		if len(f.GetUnit()) > maxUnitBytes {
			return fmt.Errorf("field %s: its unit has more than %d bytes", f.GetName(), maxUnitBytes)
		}
	}
	for _, c := range d.GetCommands() {
		if err := checkCommand(c); err != nil {
			return err
		}
	}
	return nil
}

func checkCommand(c *devicev1.CommandDescription) error {
	if !validName(c.GetName(), true) {
		return fmt.Errorf("command %.80q: bad name", c.GetName())
	}
	if len(c.GetArguments()) > maxDescribedArguments {
		return fmt.Errorf("command %s: more than %d arguments", c.GetName(), maxDescribedArguments)
	}
	for _, a := range c.GetArguments() {
		if !validName(a.GetName(), false) || len(a.GetUnit()) > maxUnitBytes {
			return fmt.Errorf("command %s, argument %.80q: bad name or unit", c.GetName(), a.GetName())
		}
	}
	return nil
}

// validName is [A-Za-z_][A-Za-z0-9_]{0,63}; a command's name may have "-" and
// "." inside.
func validName(name string, command bool) bool {
	if len(name) == 0 || len(name) > telemetry.MaxNameBytes {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
		case '0' <= c && c <= '9' && i > 0:
		case command && (c == '-' || c == '.') && i > 0:
		default:
			return false
		}
	}
	return true
}
