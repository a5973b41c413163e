package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	_ "time/tzdata" // --tz works on machines without a zone database

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/contexts"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

// app is one run of hubctl.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string

	// Persistent flags.
	given   connection.Given
	format  string
	timeout time.Duration // of one call to the hub

	out      output.Format
	settings connection.Settings // of the last connect, for messages
	api      *connection.Clients
	path     string // of the command that failed, for messages
	begun    bool   // the command line was understood
}

// run is the whole program: it returns the exit code. ctx ends it early, as
// Ctrl-C does.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env, out: output.Table}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if a.api != nil {
		a.api.Close()
	}
	if err == nil {
		return exitOK
	}
	a.path = cmd.CommandPath()
	return a.fail(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hubctl",
		Short: "Operate a Tetherline hub: devices, telemetry, commands",
		Long: `hubctl operates a Tetherline hub: devices, their telemetry, commands to them.

It asks https://127.0.0.1:8443 unless --hub, TETHERLINE_HUB or a saved context
names another hub. See 'hubctl help connecting' for hubs and tokens, and
'hubctl help exit-codes' for scripts.`,
		Example: `  hubctl --data /var/lib/tetherline status
  hubctl device create greenhouse-1 --label site=north --out greenhouse-1.json
  hubctl telemetry watch greenhouse-1
  hubctl command send greenhouse-1 set_relay --arg on=true --wait`,
		Args:          cobra.ArbitraryArgs,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			out, err := output.ParseFormat(a.format)
			if err != nil {
				return usageError{err}
			}
			if a.timeout <= 0 {
				return usagef("--request-timeout must be above zero")
			}
			a.out, a.begun = out, true
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	f := root.PersistentFlags()
	f.StringVar(&a.given.Hub, "hub", "", "address of the hub, https://host:port (TETHERLINE_HUB)")
	f.StringVar(&a.given.Token, "token", "", "operator token, or @FILE that holds it (TETHERLINE_TOKEN)")
	f.StringVar(&a.given.CA, "ca", "", "PEM file of the CA that signed the hub's certificate (TETHERLINE_CA)")
	f.StringVar(&a.given.Data, "data", "", "data folder of a hub on this machine: it says the hub's address, an admin's token and the CA")
	f.StringVar(&a.given.Context, "context", "", "saved context to use (TETHERLINE_CONTEXT)")
	f.StringVarP(&a.format, "output", "o", string(output.Table), "how to write the answer: table, json or csv")
	f.DurationVar(&a.timeout, "request-timeout", 30*time.Second, "how long one call to the hub may take")
	a.complete(root, "output", fixed("table", "json", "csv"))
	a.complete(root, "context", a.completeContexts)

	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		a.deviceCommand(), a.telemetryCommand(), a.commandCommand(), a.quarantineCommand(), a.bridgeCommand(),
		a.operatorCommand(), a.auditCommand(), a.statusCommand(), a.topCommand(),
		a.contextCommand(), a.versionCommand(), a.completionCommand(),
		connectingTopic(), exitCodesTopic(),
	)
	return root
}

// group is a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which one? 'hubctl help%s' lists what there is", cmd.CommandPath()[len("hubctl"):])
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("unknown command %q for %q", name, cmd.CommandPath())
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usagef("%s", text)
}

// connect opens the API, once.
func (a *app) connect() (*connection.Clients, error) {
	if a.api != nil {
		return a.api, nil
	}
	s, err := connection.Resolve(a.given, a.env, a.loadContexts)
	if err != nil {
		return nil, err
	}
	a.settings = s
	a.api, err = connection.Open(s, "hubctl/"+programVersion())
	return a.api, err
}

func (a *app) loadContexts() (contexts.File, error) {
	path, err := contexts.Path(a.env)
	if err != nil {
		return contexts.File{}, err
	}
	f, loose, err := contexts.Load(path)
	if loose {
		a.notef("others can read the tokens in %s: run 'chmod 600 %s'", path, path)
	}
	return f, err
}

// call makes one bounded call to the hub.
func call[Req, Res any](ctx context.Context, a *app, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	res, err := method(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// notef tells people something beside the answer.
func (a *app) notef(format string, args ...any) {
	fmt.Fprintln(a.stderr, terminal.Clean(fmt.Sprintf(format, args...)))
}

// screenWidth is that of the terminal the answer goes to, 0 when it goes
// elsewhere.
func (a *app) screenWidth() int {
	width, _ := terminal.Size(a.stdout)
	return width
}

// zone is the one for times that people read and write.
func (a *app) zone() *time.Location {
	if name := a.env("TZ"); name != "" {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone
		}
	}
	return time.Local
}

// confirm asks before something that cannot be undone. Without a terminal
// only --yes answers.
func (a *app) confirm(yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	if !terminal.IsInput(a.stdin) {
		return usagef("this cannot be undone: add --yes")
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", terminal.Clean(fmt.Sprintf(format, args...)))
	var answer string
	_, err := fmt.Fscanln(a.stdin, &answer)
	if err == nil && (answer == "y" || answer == "Y" || answer == "yes") {
		return nil
	}
	return errors.New("nothing was changed")
}

// errLongInput says that there is more to read than may be.
var errLongInput = errors.New("longer")

// readInput reads a flag's value that may be @FILE, or @- for stdin.
func (a *app) readInput(value string, limit int64) ([]byte, error) {
	if len(value) == 0 || value[0] != '@' {
		return []byte(value), nil
	}
	name := value[1:]
	from := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is %w than %d bytes", name, errLongInput, limit)
	}
	return raw, nil
}
