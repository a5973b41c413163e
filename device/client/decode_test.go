package client

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// A refusal names the argument, what came and what is wanted, in words of the
// operator and not of Go.
func TestRefusedArgumentsAreInWords(t *testing.T) {
	type inner struct {
		Level int8 `json:"level"`
	}
	type shape struct {
		On    *bool   `json:"on"`
		Relay int     `json:"relay"`
		Code  uint32  `json:"code"`
		Rate  float64 `json:"rate"`
		Name  string  `json:"name"`
		List  []int   `json:"list"`
		Inner inner   `json:"inner"`
	}
	const takesAll = "this command takes on, relay, code, rate, name, list, inner"
	for payload, want := range map[string]string{
		`{"on":"fast"}`:           `argument on: is "fast"; true or false is wanted`,
		`{"ON":"fast"}`:           `argument on: is "fast"; true or false is wanted`,
		`{"relay":"1"}`:           `argument relay: is "1"; a whole number is wanted`,
		`{"relay":1.5}`:           `argument relay: is 1.5; a whole number is wanted`,
		`{"code":-1}`:             `argument code: is -1; a whole number from 0 to 4294967295 is wanted`,
		`{"rate":true}`:           `argument rate: is true; a number is wanted`,
		`{"name":7}`:              `argument name: is 7; a text is wanted`,
		`{"list":{"a":1}}`:        `argument list: is {"a":1}; a list is wanted`,
		`{"inner":[1]}`:           `argument inner: is [1]; an object is wanted`,
		`{"inner":{"level":"x"}}`: `argument inner.level: is a text; a whole number from -128 to 127 is wanted`,
		`{"inner":{"level":500}}`: `argument inner.level: is 500; a whole number from -128 to 127 is wanted`,
		`{"inner":{"leve":1}}`:    `argument leve: is not known`,
		`{"speed":1}`:             `argument speed: is not known; ` + takesAll,
		`{"on":"` + strings.Repeat("x", 100) + `"}`: `argument on: is a text of 100 bytes; true or false is wanted`,
		``: `there are no arguments; ` + takesAll,
	} {
		args, err := arguments(payload)
		if err != nil {
			t.Fatal(err)
		}
		c := &Command{payload: &devicev1.Command{Payload: &devicev1.Command_Json{Json: payload}}, args: args}
		err = c.Decode(new(shape))
		var refused *ArgumentError
		if !errors.As(err, &refused) || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", payload, err, want)
		}
	}
	one := &Command{args: map[string]json.RawMessage{"x": json.RawMessage(`"12"`)}}
	if _, err := one.Float("x"); err == nil || err.Error() != `argument x: is "12"; a number is wanted` {
		t.Error(err)
	}
	if _, err := one.Int("y"); err == nil || err.Error() != "argument y: is missing; a whole number is wanted" {
		t.Error(err)
	}
}

// A payload of the other kind is refused, and not taken for an empty one.
func TestPayloadsOfTheOtherKindAreRefused(t *testing.T) {
	text := &Command{payload: &devicev1.Command{Payload: &devicev1.Command_Json{Json: `{"on":true}`}}, args: map[string]json.RawMessage{"on": json.RawMessage("true")}}
	if err := text.Decode(new(wrapperspb.BoolValue)); err == nil || err.Error() != "the payload is JSON; a protobuf message google.protobuf.BoolValue is wanted" {
		t.Error(err)
	}
	bytes := &Command{payload: &devicev1.Command{Payload: &devicev1.Command_Protobuf{Protobuf: []byte{0xff}}}}
	if err := bytes.Decode(new(struct{})); err == nil || err.Error() != "the payload is protobuf; a JSON object is wanted" {
		t.Error(err)
	}
	if err := bytes.Decode(new(wrapperspb.BoolValue)); err == nil || err.Error() != "the payload is something else; a protobuf message google.protobuf.BoolValue is wanted" {
		t.Error(err)
	}
	empty := &Command{payload: &devicev1.Command{Payload: &devicev1.Command_Json{Json: "{}"}}}
	if err := empty.Decode(new(wrapperspb.BoolValue)); err != nil {
		t.Error(err)
	}
}
