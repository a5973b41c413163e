package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
)

// version is set by the linker (-X main.version=…) in released builds.
var version string

// programVersion is the released version, or else the revision that the
// build recorded.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, changed := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				changed = "-dirty"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + changed
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of hubctl",
		Example: "  hubctl version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := programVersion()
			switch a.out {
			case output.JSON:
				return output.WriteRaw(a.stdout, fmt.Appendf(nil, `{"version":%q,"go":%q,"os":%q,"arch":%q}`, v, runtime.Version(), runtime.GOOS, runtime.GOARCH))
			case output.CSV:
				_, err := fmt.Fprintf(a.stdout, "version,go,os,arch\n%s,%s,%s,%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
			_, err := fmt.Fprintf(a.stdout, "hubctl %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
