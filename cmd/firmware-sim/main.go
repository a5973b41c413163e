// Command firmware-sim runs simulated devices against a hub.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), ending()...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// ending is the signals that end the program in good order. A terminal that is
// closed sends SIGHUP; who started this with nohup wants it to go on.
func ending() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "firmware-sim",
		Short:         "Simulated devices for a Tetherline hub",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildVersion(),
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(), fleetCommand(), loadCommand(), proveCommand(), gearCommand())
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	status, err := exitOf(ctx, err)
	_, _ = fmt.Fprintln(stderr, "firmware-sim:", explained(err, cmd))
	return status
}

// output writes a summary as a table or as JSON.
type output string

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP((*string)(o), "output", "o", "table", "form of the summary: table or json")
}

func (o output) check() error {
	if o != "table" && o != "json" {
		return fmt.Errorf("output %q is none of table, json", string(o))
	}
	return nil
}

// write a summary, which is fit for JSON.
func (o output) write(w io.Writer, s io.WriterTo) error {
	if o == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	_, err := s.WriteTo(w)
	return err
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}

// readToken takes a token, or "@file" for the file that holds it; empty: the
// environment's TETHERLINE_TOKEN.
func readToken(token string) (string, error) {
	if token == "" {
		token = os.Getenv("TETHERLINE_TOKEN")
	}
	if file, ok := strings.CutPrefix(token, "@"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		return "", errors.New("give an operator's token: --token @hub-data/admin.token, or TETHERLINE_TOKEN")
	}
	return token, nil
}
