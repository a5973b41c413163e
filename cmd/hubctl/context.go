package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/contexts"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
)

func (a *app) contextCommand() *cobra.Command {
	return group("context", "Save hubs by name",
		"  hubctl context add home --hub https://hub.example:8443 --token @admin.token --ca ca.pem --use",
		a.contextAdd(), a.contextUse(), a.contextList(), a.contextShow(), a.contextRemove(),
	)
}

func (a *app) contextAdd() *cobra.Command {
	var use, force bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Save the hub of --hub, --token and --ca, or of --data, by a name",
		Long: `Save the hub of --hub, --token and --ca, or of --data, by a name. The CA's
certificate is copied; of --token @FILE and --data the file's name is kept, so
that the token stays where it is.`,
		Example: "  hubctl context add home --hub https://hub.example:8443 --token @admin.token --ca ca.pem --use\n" +
			"  hubctl context add here --data /var/lib/tetherline",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			if a.given.Context != "" {
				return usagef("--context makes no sense here: name the hub by --hub or --data")
			}
			// Resolving checks everything, and without saved contexts takes
			// the command line and the variables alone.
			none := func() (contexts.File, error) { return contexts.File{}, nil }
			s, err := connection.Resolve(a.given, a.withoutContext, none)
			if err != nil {
				return err
			}
			if s.CA != nil {
				if _, err := connection.Open(s, ""); err != nil {
					return err
				}
			}
			c := contexts.Context{Hub: s.Hub, Token: s.Token, CAPEM: string(s.CA)}
			if file := a.tokenFile(); file != "" {
				if c.TokenFile, err = filepath.Abs(file); err != nil {
					return err
				}
				c.Token = ""
			}
			return a.changeContexts(func(f *contexts.File) (string, error) {
				if _, err := f.Get(args[0]); err == nil && !force {
					return "", fmt.Errorf("there is a context %s already: replace it with --force", args[0])
				}
				if err := f.Put(args[0], c); err != nil {
					return "", usageError{err}
				}
				if use || len(f.Contexts) == 1 {
					f.Current = args[0]
					return fmt.Sprintf("context %s saved, and current: %s", args[0], c.Hub), nil
				}
				return fmt.Sprintf("context %s saved: %s", args[0], c.Hub), nil
			})
		},
	}
	cmd.Flags().BoolVar(&use, "use", false, "make it the current one")
	cmd.Flags().BoolVar(&force, "force", false, "replace one of that name")
	return cmd
}

// withoutContext is the environment but for the context it may name.
func (a *app) withoutContext(key string) string {
	if key == "TETHERLINE_CONTEXT" {
		return ""
	}
	return a.env(key)
}

// tokenFile is the file that the token came from, "" where it came as it is.
func (a *app) tokenFile() string {
	token := a.given.Token
	if token == "" && a.given.Data != "" {
		return filepath.Join(a.given.Data, "admin.token")
	}
	if token == "" {
		token = a.env("TETHERLINE_TOKEN")
	}
	file, ok := strings.CutPrefix(token, "@")
	if !ok {
		return ""
	}
	return file
}

func (a *app) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a context the current one",
		Example:           "  hubctl context use home",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContextArg,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(f *contexts.File) (string, error) {
				c, err := f.Get(args[0])
				if err != nil {
					return "", exitStatus{code: exitNotFound, err: fmt.Errorf("%w; 'hubctl context ls' lists them", err)}
				}
				f.Current = args[0]
				return fmt.Sprintf("context %s is current: %s", args[0], c.Hub), nil
			})
		},
	}
}

func (a *app) contextRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Forget a context",
		Example:           "  hubctl context rm home",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContextArg,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(f *contexts.File) (string, error) {
				if err := f.Remove(args[0]); err != nil {
					return "", exitStatus{code: exitNotFound, err: fmt.Errorf("%w; 'hubctl context ls' lists them", err)}
				}
				return fmt.Sprintf("context %s removed", args[0]), nil
			})
		},
	}
}

func (a *app) changeContexts(change func(*contexts.File) (string, error)) error {
	path, err := contexts.Path(a.env)
	if err != nil {
		return err
	}
	f, err := a.loadContexts()
	if err != nil {
		return err
	}
	done, err := change(&f)
	if err != nil {
		return err
	}
	if err := f.Save(path); err != nil {
		return err
	}
	if a.out == output.Table {
		_, err = fmt.Fprintln(a.stdout, cleanName(done))
	}
	return err
}

func (a *app) contextList() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List saved contexts",
		Example: "  hubctl context ls",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := a.loadContexts()
			if err != nil {
				return err
			}
			var all []savedContext
			for _, name := range f.Names() {
				all = append(all, describe(name, f))
			}
			return a.printContexts(all)
		},
	}
}

func (a *app) contextShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show a context, but not its token; without a name the current one",
		Example:           "  hubctl context show home",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeContextArg,
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := a.loadContexts()
			if err != nil {
				return err
			}
			name := f.Current
			if len(args) == 1 {
				name = args[0]
			}
			if name == "" {
				return exitStatus{code: exitNotFound, err: fmt.Errorf("no context is current: 'hubctl context use NAME'")}
			}
			if _, err := f.Get(name); err != nil {
				return exitStatus{code: exitNotFound, err: fmt.Errorf("%w; 'hubctl context ls' lists them", err)}
			}
			return a.printContext(describe(name, f))
		},
	}
}
