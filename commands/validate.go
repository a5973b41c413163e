package commands

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Request asks for one command.
type Request struct {
	Device string
	Spec   Spec
	// Key is the caller's idempotency key, [A-Za-z0-9_.:-]{1,64}, and becomes
	// the id; "": an id is generated. A key is remembered as long as the
	// history is kept.
	Key      string
	Operator string // who asks
}

// normalize fills in the defaults. Errors wrap ErrInvalid.
func (s *Spec) normalize() error {
	if !validName(s.Name) {
		return fmt.Errorf("%w: command name %.80q is not a letter or '_' and up to 63 letters, digits, '_', '.' or '-'", ErrInvalid, s.Name)
	}
	if s.TTL == 0 {
		s.TTL = DefaultTTL
	}
	if s.TTL < MinTTL || s.TTL > MaxTTL {
		return fmt.Errorf("%w: ttl %s is not within %s and %s", ErrInvalid, s.TTL, MinTTL, MaxTTL)
	}
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	if s.Timeout < MinTimeout || s.Timeout > MaxTimeout {
		return fmt.Errorf("%w: timeout %s is not within %s and %s", ErrInvalid, s.Timeout, MinTimeout, MaxTimeout)
	}
	if int(s.Replay) >= len(replayNames) {
		return fmt.Errorf("%w: unknown replay class %d", ErrInvalid, s.Replay)
	}
	return s.Payload.checkArguments()
}

func (p *Payload) checkArguments() error {
	if n := len(p.JSON) + len(p.Protobuf); n > MaxPayloadBytes {
		return fmt.Errorf("%w: payload of %d bytes is over the limit of %d: %s", ErrInvalid, n, MaxPayloadBytes, PayloadAdvice)
	}
	if p.JSON != "" && len(p.Protobuf) > 0 {
		return fmt.Errorf("%w: a payload is JSON or protobuf, not both", ErrInvalid)
	}
	if len(p.Protobuf) > 0 {
		return nil
	}
	if p.JSON == "" {
		p.JSON = "{}"
		return nil
	}
	if _, err := decodeObject(p.JSON); err != nil {
		return fmt.Errorf("%w: payload is not one JSON object: %w", ErrInvalid, err)
	}
	return nil
}

func decodeObject(s string) (map[string]any, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return m, nil
}

// digest is what an idempotency key stands for: two requests with the same
// digest ask for the same thing. White space and the order of members in a
// JSON payload make no difference.
func digest(target string, s *Spec, extra ...any) string {
	payload := any(s.Payload.Protobuf)
	kind := "protobuf"
	if s.Payload.JSON != "" {
		kind = "json"
		if m, err := decodeObject(s.Payload.JSON); err == nil {
			payload = m
		}
	}
	// Marshal sorts the members of objects.
	b, err := json.Marshal([]any{target, s.Name, kind, payload, int64(s.TTL), int64(s.Timeout), s.Replay.String(), extra})
	if err != nil {
		panic("commands: digest: " + err.Error()) // nothing above can fail to marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// CheckKey returns nil or an error that wraps ErrInvalid.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxIDBytes {
		return fmt.Errorf("%w: a key has 1 to %d characters", ErrInvalid, MaxIDBytes)
	}
	for i := range len(key) {
		if !alnum(key[i]) && key[i] != '_' && key[i] != '.' && key[i] != ':' && key[i] != '-' {
			return fmt.Errorf("%w: key %.80q has a character other than letters, digits, '_', '.', ':' and '-'", ErrInvalid, key)
		}
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > MaxNameBytes || '0' <= name[0] && name[0] <= '9' || name[0] == '-' || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// newID is a UUIDv7: ids sort by the time they were made.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return id.String(), nil
}

// newCommand is a checked request as a QUEUED command.
func newCommand(id string, r *Request, group, node string, now time.Time) *Command {
	c := &Command{
		ID: id, Device: r.Device, Spec: r.Spec, Digest: digest(r.Device, &r.Spec),
		Group: group, Operator: r.Operator,
		Created: now, Expires: now.Add(r.Spec.TTL),
		State: Queued,
	}
	c.Reason = "accepted"
	if r.Operator != "" {
		c.Reason = "accepted from " + r.Operator
	}
	c.record(Event{Time: now, State: Queued, Reason: c.Reason, Node: node})
	return c
}

// wait says why a command that is about to be stored is not sent at once.
func (c *Command) wait(reason string) {
	c.Reason += "; " + reason
	c.Events[0].Reason = c.Reason
}
