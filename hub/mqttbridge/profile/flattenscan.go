package profile

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tetherline/tetherline/telemetry"
)

// scanner reads one JSON document (RFC 8259) in one pass over its bytes,
// without recursion deeper than MaxDepth. Own code, because encoding/json
// either builds the document or reads it token by token with several
// allocations each, and knows no bound on depth below 10,000.
type scanner struct {
	data  []byte
	at    int
	depth int
	into  *Flattener // nil: the document is only checked
}

func (s *scanner) scan(payload []byte, into *Flattener) error {
	if len(payload) > MaxPayloadBytes {
		return Refuse("too large", "%d bytes, the limit is %d", len(payload), MaxPayloadBytes)
	}
	if !utf8.Valid(payload) {
		return Refuse("not UTF-8", "")
	}
	s.data, s.at, s.depth, s.into = payload, 0, 0, into
	defer func() { s.data = nil }()
	if err := s.value(); err != nil {
		return err
	}
	if s.next() != 0 || s.at < len(s.data) {
		return s.wrong("after the document")
	}
	return nil
}

// next skips white space and is the byte behind it, 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.data) {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) wrong(where string) error {
	if s.at >= len(s.data) {
		return Refuse("not JSON", "it ends %s", where)
	}
	rest := s.data[s.at:]
	return Refuse("not JSON", "byte %d, %s: %s", s.at, where, quoted(rest[:min(len(rest), 20)]))
}

func (s *scanner) value() error {
	switch c := s.next(); {
	case c == '{' || c == '[':
		return s.nested(c)
	case c == '"':
		return s.text()
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	default:
		return s.word()
	}
}

func (s *scanner) nested(opening byte) (err error) {
	if s.depth == MaxDepth {
		return Refuse("too deep", "over %d levels", MaxDepth)
	}
	s.depth++
	s.at++
	if opening == '{' {
		err = s.object()
	} else {
		err = s.array()
	}
	s.depth--
	return err
}

func (s *scanner) object() error {
	if s.next() == '}' {
		s.at++
		return nil
	}
	for {
		if s.next() != '"' {
			return s.wrong("where a key belongs")
		}
		raw, plain, err := s.rawString()
		if err != nil {
			return err
		}
		if s.next() != ':' {
			return s.wrong("where a ':' belongs")
		}
		s.at++
		if err := s.member(raw, plain); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		default:
			return s.wrong("in an object")
		}
	}
}

func (s *scanner) member(raw []byte, plain bool) error {
	if s.into == nil {
		return s.value()
	}
	var outside int
	if plain {
		outside = s.into.enter(raw[1 : len(raw)-1])
	} else {
		outside = s.into.enter([]byte(unquote(raw)))
	}
	err := s.value()
	s.into.leave(outside)
	return err
}

func (s *scanner) array() error {
	if s.next() == ']' {
		s.at++
		return nil
	}
	into := s.into
	defer func() { s.into = into }()
	for i := 0; ; i++ {
		if i == MaxArray && s.into != nil {
			s.into.trouble("array %s has over %d elements: the first are kept", quoted(s.into.path), MaxArray)
			s.into = nil
		}
		if err := s.element(i); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return s.wrong("in an array")
		}
	}
}

func (s *scanner) element(i int) error {
	if s.into == nil {
		return s.value()
	}
	var digits [20]byte
	outside := s.into.enter(strconv.AppendInt(digits[:0], int64(i), 10))
	err := s.value()
	s.into.leave(outside)
	return err
}

func (s *scanner) text() error {
	raw, plain, err := s.rawString()
	if err != nil || s.into == nil {
		return err
	}
	var text string
	if plain {
		raw = raw[1 : len(raw)-1]
		if len(raw) <= telemetry.MaxStringBytes {
			text = string(raw)
		}
	} else {
		text = unquote(raw)
	}
	if len(raw) > telemetry.MaxStringBytes && (plain || len(text) > telemetry.MaxStringBytes) {
		s.into.trouble("field %s: a text over %d bytes", quoted(s.into.path), telemetry.MaxStringBytes)
		return nil
	}
	return s.into.leaf(telemetry.StringValue(text), nil)
}

// rawString is the string at hand with its quotes, plain when it has no
// escapes.
func (s *scanner) rawString() (raw []byte, plain bool, err error) {
	start := s.at
	plain = true
	for s.at++; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[start:s.at], plain, nil
		case c < ' ':
			return nil, false, s.wrong("in a string")
		case c == '\\':
			plain = false
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		}
	}
	return nil, false, s.wrong("in a string")
}

func (s *scanner) escape() error {
	s.at++
	if s.at >= len(s.data) {
		return s.wrong("in a string")
	}
	switch s.data[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		if s.at+4 < len(s.data) {
			if _, err := strconv.ParseUint(string(s.data[s.at+1:s.at+5]), 16, 16); err == nil {
				s.at += 4
				return nil
			}
		}
	}
	return s.wrong("in a string, after '\\'")
}

// unquote a string that rawString has checked.
func unquote(raw []byte) string {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return strings.Trim(string(raw), `"`)
	}
	return text
}

func (s *scanner) number() error {
	start := s.at
	if s.data[s.at] == '-' {
		s.at++
		if s.at < len(s.data) && (s.data[s.at] == 'i' || s.data[s.at] == 'I' || s.data[s.at] == 'n' || s.data[s.at] == 'N') {
			return s.word()
		}
	}
	whole := s.at
	if s.digits() == 0 || s.data[whole] == '0' && s.at > whole+1 {
		s.at = start
		return s.wrong("where a number belongs")
	}
	if s.at < len(s.data) && s.data[s.at] == '.' {
		s.at++
		if s.digits() == 0 {
			return s.wrong("in a number")
		}
	}
	if s.at < len(s.data) && (s.data[s.at] == 'e' || s.data[s.at] == 'E') {
		s.at++
		if s.at < len(s.data) && (s.data[s.at] == '+' || s.data[s.at] == '-') {
			s.at++
		}
		if s.digits() == 0 {
			return s.wrong("in a number")
		}
	}
	if s.into == nil {
		return nil
	}
	return s.numberLeaf(s.data[start:s.at])
}

func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.data) && '0' <= s.data[s.at] && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at - start
}

func (s *scanner) numberLeaf(number []byte) error {
	v, err := strconv.ParseFloat(string(number), 64)
	if err != nil || math.IsInf(v, 0) {
		s.into.trouble("field %s: %s is out of range", quoted(s.into.path), quoted(number))
		return nil
	}
	return s.into.leaf(telemetry.DoubleValue(v), number)
}

// word reads true, false, null, and what gear writes where it has no number.
func (s *scanner) word() error {
	start := s.at
	for s.at < len(s.data) && ('a' <= s.data[s.at]|0x20 && s.data[s.at]|0x20 <= 'z') {
		s.at++
	}
	word := s.data[start:s.at]
	switch string(word) {
	case "null":
		return nil
	case "true", "false":
		if s.into == nil {
			return nil
		}
		return s.into.leaf(telemetry.BoolValue(len(word) == len("true")), nil)
	}
	switch strings.ToLower(string(word)) {
	case "nan", "inf", "infinity":
		if s.into == nil {
			return nil
		}
		s.into.trouble("field %s: %s is no number", quoted(s.into.path), word)
		return nil
	}
	s.at = start
	return s.wrong("where a value belongs")
}
