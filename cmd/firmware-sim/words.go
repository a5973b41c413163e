package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the linker (make build).
var version = ""

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// explained adds what to do about an error, where that is known.
func explained(err error, cmd *cobra.Command) error {
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		return err
	}
	ca := cmd.Flags().Lookup("ca")
	switch {
	case ca == nil:
		return fmt.Errorf("%w: the hub's certificate is not signed by the CA in the device's file (ca_pem); is it the file of this hub?", err)
	case ca.Changed:
		return fmt.Errorf("%w: the hub's certificate is not signed by the CA in %s; is it the ca.pem of this hub?", err, ca.Value)
	}
	return fmt.Errorf("%w: give the ca.pem of the hub's data folder, as --ca hub-data/ca.pem, or set TETHERLINE_CA", err)
}

// takes says what flags of a type take, by the type's name in pflag.
var takes = map[string]string{
	"bool":     "true or false",
	"duration": "a duration, as 500ms, 90s, 5m or 1h30m",
	"float64":  "a number, as 0.5",
	"int":      "a whole number",
	"int64":    "a whole number",
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

// notZero refuses a 0 that somebody has written: in a config it means the
// default.
func notZero(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		flag := cmd.Flags().Lookup(name)
		if flag.Changed && (flag.Value.String() == "0" || flag.Value.String() == "0s") {
			return fmt.Errorf("--%s 0 is none: leave it out for %s", name, flag.DefValue)
		}
	}
	return nil
}
