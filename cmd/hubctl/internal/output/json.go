package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// marshal writes every key, empty ones too, so that scripts find them.
var marshal = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// Compact is m as one line of JSON, with the names of the .proto file as
// keys. 64-bit integers are strings there, as protobuf's JSON has them.
func Compact(m proto.Message) ([]byte, error) {
	raw, err := marshal.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil { // protojson varies its blanks on purpose
		return nil, err
	}
	return harmless(b.Bytes()), nil
}

// harmless writes characters that a terminal may obey as \u escapes. Outside
// of strings JSON has none of them.
func harmless(raw []byte) []byte {
	clean := true
	for _, c := range raw {
		if c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return raw
	}
	out := make([]byte, 0, len(raw)+16)
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		if terminal.Unsafe(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, raw[:size]...)
		}
		raw = raw[size:]
	}
	return out
}

// WriteObject writes m as an indented JSON object.
func WriteObject(w io.Writer, m proto.Message) error {
	raw, err := Compact(m)
	if err != nil {
		return err
	}
	return WriteRaw(w, raw)
}

// WriteRaw writes JSON indented, with a newline behind it.
func WriteRaw(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// WriteLine writes m as one line of JSON.
func WriteLine(w io.Writer, m proto.Message) error {
	raw, err := Compact(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}

// Array writes a JSON array, an element at a time. One that is not closed,
// because an error came between, is not valid JSON: a reader sees that
// something is missing.
type Array struct {
	w io.Writer
	n int
}

// NewArray starts an array on w.
func NewArray(w io.Writer) *Array { return &Array{w: w} }

// Put adds an element.
func (a *Array) Put(m proto.Message) error {
	raw, err := Compact(m)
	if err != nil {
		return err
	}
	lead := ",\n  "
	if a.n == 0 {
		lead = "[\n  "
	}
	a.n++
	_, err = fmt.Fprintf(a.w, "%s%s", lead, raw)
	return err
}

// Close ends the array.
func (a *Array) Close() error {
	end := "\n]\n"
	if a.n == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(a.w, end)
	return err
}
