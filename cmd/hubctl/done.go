package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// printDone confirms a change whose answer says nothing more: a sentence for
// people, the answer's own JSON for programs, and nothing as CSV.
func printDone(a *app, answer proto.Message, format string, args ...any) error {
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, answer)
	case output.CSV:
		return nil
	}
	_, err := fmt.Fprintln(a.stdout, terminal.Clean(fmt.Sprintf(format, args...)))
	return err
}
