package profile

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// CheckJSON refuses what Flatten refuses but for the number of fields, before
// a document is decoded with encoding/json.
func CheckJSON(payload []byte) error {
	var s scanner
	return s.scan(payload, nil)
}

// DecodeJSON is CheckJSON and then json.Unmarshal. A document of another shape
// is refused as "not the JSON expected", with the place and what belongs there.
func DecodeJSON(payload []byte, into any) error {
	if err := CheckJSON(payload); err != nil {
		return err
	}
	return misshapen(json.Unmarshal(payload, into))
}

// misshapen says in words for people what encoding/json has found.
func misshapen(err error) error {
	var shape *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &shape):
		place := shape.Field
		if place == "" {
			place = "the document"
		}
		return Refuse("not the JSON expected", "%s: %s where %s belongs", cut(place), jsonHas(shape.Value), jsonWants(shape.Type))
	case errors.As(err, &syntax):
		// What CheckJSON lets pass, as some gear writes it for no number.
		return Refuse("not JSON", "near byte %d: NaN or Infinity, which JSON does not have", syntax.Offset)
	}
	// A json.Number has no UnmarshalTypeError for a text.
	return Refuse("not the JSON expected", "a text where a number belongs")
}

// jsonHas is json.UnmarshalTypeError.Value.
func jsonHas(value string) string {
	if number, ok := strings.CutPrefix(value, "number "); ok {
		return "the number " + quoted(number)
	}
	switch value {
	case "string":
		return "a text"
	case "array":
		return "a list"
	case "bool":
		return "true or false"
	case "object":
		return "an object"
	}
	return "a " + value
}

func jsonWants(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		if t == reflect.TypeFor[json.Number]() {
			return "a number"
		}
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float64, reflect.Float32:
		return "a number"
	}
	return "a whole number"
}
