package client

import (
	"encoding/json"
	"fmt"
	"math"
)

// ArgumentError says that an argument of a command is missing or has the
// wrong type or value. A handler that returns one has its command REJECTED as
// INVALID_ARGUMENT.
type ArgumentError struct {
	Name   string // "": the payload as a whole
	Reason string
}

func (e *ArgumentError) Error() string {
	if e.Name == "" {
		return e.Reason
	}
	return fmt.Sprintf("argument %s: %s", e.Name, e.Reason)
}

// Has reports whether there is an argument of that name, other than null.
func (c *Command) Has(name string) bool {
	raw, ok := c.args[name]
	return ok && string(raw) != "null"
}

// Float is the number of that name. Errors are *ArgumentError, here and
// below; a handler returns them as they are.
func (c *Command) Float(name string) (float64, error) {
	return argument[float64](c, name, "a number")
}

// Int is the whole number of that name.
func (c *Command) Int(name string) (int64, error) {
	if v, err := argument[int64](c, name, "a whole number"); err == nil || !c.Has(name) {
		return v, err
	}
	// 5.0 and 1e3 are whole numbers too.
	f, err := argument[float64](c, name, "a whole number")
	if err == nil && (f != math.Trunc(f) || math.Abs(f) > 1<<53) {
		err = &ArgumentError{Name: name, Reason: unlike(valueWords(c.args[name]), "a whole number")}
	}
	return int64(f), err
}

// Bool is the true or false of that name.
func (c *Command) Bool(name string) (bool, error) {
	return argument[bool](c, name, "true or false")
}

// Text is the string of that name.
func (c *Command) Text(name string) (string, error) {
	return argument[string](c, name, "a text")
}

func argument[T any](c *Command, name, kind string) (v T, err error) {
	if !c.Has(name) {
		return v, &ArgumentError{Name: name, Reason: "is missing; " + kind + " is wanted"}
	}
	if json.Unmarshal(c.args[name], &v) != nil {
		return v, &ArgumentError{Name: name, Reason: unlike(valueWords(c.args[name]), kind)}
	}
	return v, nil
}

// arguments of a JSON payload. An empty payload has none.
func arguments(payload string) (map[string]json.RawMessage, error) {
	if payload == "" {
		return nil, nil
	}
	var args map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &args) != nil || args == nil {
		return nil, &ArgumentError{Reason: "the payload is not a JSON object"}
	}
	return args, nil
}
