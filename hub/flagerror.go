package hub

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// flagTakes says what flags of a type take, by the type's name in pflag.
var flagTakes = map[string]string{
	"bool":     "true or false",
	"duration": "a duration, as 500ms, 90s, 5m or 1h30m",
	"float64":  "a number, as 0.5",
	"int":      "a whole number",
	"int64":    "a whole number",
}

// FlagError is an error of a flag, or of a key of the config, in words that
// do not need Go's library to be understood. The flags whose values are
// secrets take any text and have no such error.
func FlagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	takes, known := flagTakes[invalid.GetFlag().Value.Type()]
	if !known {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", invalid.GetFlag().Name, takes, invalid.GetValue())
}
