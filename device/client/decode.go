package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Decode reads the payload into v: a proto.Message for a protobuf payload, or
// what encoding/json takes. Its errors are *ArgumentError, which tell an
// operator the argument, what came, and what is wanted; a handler returns them
// as they are.
func (c *Command) Decode(v any) error {
	if m, ok := v.(proto.Message); ok {
		return c.decodeProtobuf(m)
	}
	if c.Protobuf() != nil {
		return &ArgumentError{Reason: "the payload is protobuf; a JSON object is wanted"}
	}
	d := json.NewDecoder(strings.NewReader(c.JSON()))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return c.explain(err, v)
	}
	return nil
}

func (c *Command) decodeProtobuf(m proto.Message) error {
	wanted := "a protobuf message " + string(m.ProtoReflect().Descriptor().FullName()) + " is wanted"
	if len(c.args) > 0 {
		return &ArgumentError{Reason: "the payload is JSON; " + wanted}
	}
	if proto.Unmarshal(c.Protobuf(), m) != nil {
		return &ArgumentError{Reason: "the payload is something else; " + wanted}
	}
	return nil
}

// explain an error of encoding/json to somebody who does not know Go.
func (c *Command) explain(err error, v any) error {
	var mistyped *json.UnmarshalTypeError
	switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case errors.As(err, &mistyped):
		return &ArgumentError{Name: mistyped.Field, Reason: unlike(c.came(mistyped), kindWords(mistyped.Type))}
	case unknown:
		name = strings.Trim(name, `"`)
		reason := "is not known"
		if _, top := c.args[name]; top { // else one inside an object
			reason += "; " + takes(v)
		}
		return &ArgumentError{Name: name, Reason: reason}
	case errors.Is(err, io.EOF):
		return &ArgumentError{Reason: "there are no arguments; " + takes(v)}
	}
	return &ArgumentError{Reason: "the arguments are not understood: " + err.Error()}
}

// came is the value that has the wrong type.
func (c *Command) came(e *json.UnmarshalTypeError) string {
	for name, raw := range c.args {
		if strings.EqualFold(name, e.Field) {
			return valueWords(raw)
		}
	}
	value, number, _ := strings.Cut(e.Value, " ")
	switch value {
	case "string":
		return "a text"
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	}
	if number != "" {
		return number
	}
	return "a " + value
}

// maxValueWords is how much of a value a message repeats, in bytes.
const maxValueWords = 40

// valueWords is a JSON value as a message repeats it.
func valueWords(raw json.RawMessage) string {
	switch {
	case len(raw) <= maxValueWords:
		return string(raw)
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case raw[0] == '"':
		return "a text of " + fmt.Sprint(len(raw)-2) + " bytes"
	}
	return strings.ToValidUTF8(string(raw[:maxValueWords]), "") + "…"
}

// unlike says that what came is not what is wanted.
func unlike(came, wanted string) string { return "is " + came + "; " + wanted + " is wanted" }

// kindWords is what a value of a Go type is for an operator.
func kindWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindWords(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		most := int64(1)<<(t.Bits()-1) - 1
		return fmt.Sprintf("a whole number from %d to %d", -most-1, most)
	case reflect.Uint, reflect.Uint64, reflect.Uintptr:
		return "a whole number from 0"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a text in base64"
		}
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a text"
}

// takes names the arguments that v has room for.
func takes(v any) string {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return "a JSON object is wanted"
	}
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous && name == "" || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "this command takes none"
	}
	return "this command takes " + strings.Join(names, ", ")
}
