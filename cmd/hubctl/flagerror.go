package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// takes says what flags of a type take, by the type's name in pflag.
var takes = map[string]string{
	"bool":     "true or false",
	"duration": "a duration, as 500ms, 90s, 5m or 1h30m",
	"float64":  "a number, as 0.5",
	"int":      "a whole number",
	"int64":    "a whole number",
	"uint":     "a whole number, 0 or more",
	"uint32":   "a whole number from 0 to 4294967295",
	"uint64":   "a whole number, 0 or more",
}

// flagError is an error of the command line in words that do not need Go's
// library to be understood.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	kind, known := takes[invalid.GetFlag().Value.Type()]
	if !known {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", invalid.GetFlag().Name, kind, invalid.GetValue())
}
