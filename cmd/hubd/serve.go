package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/hub"
)

func serveCommand(environ []string) *cobra.Command {
	config := hub.DefaultConfig()
	var file string
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Run the hub",
		Long: `Run the hub until SIGINT or SIGTERM.

The first start makes a CA and a certificate, the master key that device
credentials come from, and the first admin token, all in the data folder:
DIR/ca.pem is what devices and operators trust, DIR/admin.token (mode 0600) is
the operator token.

Every flag is also a key of the YAML file given by --config and an environment
variable: --influx-url is the key influx-url and TETHERLINE_INFLUX_URL. A flag
wins over the environment, the environment over the file. An unknown key stops
the start.

On SIGUSR1 the hub collects its garbage and gives free memory back to the
system, so that its resident memory is what it needs.`,
		Example: `  hubd serve --data ./tetherline
  hubd serve --data /var/lib/tetherline --listen 0.0.0.0:8443 --public-url wss://hub.example.org:8443
  TETHERLINE_INFLUX_TOKEN=... hubd serve --data ./tetherline \
    --influx-url http://127.0.0.1:8086 --influx-org farm --influx-bucket readings`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadConfig(cmd, file, environ); err != nil {
				return err
			}
			if err := config.Check(); err != nil {
				return err
			}
			h, err := hub.New(cmd.Context(), config, hub.Options{
				Version: buildVersion(),
				Logger:  hub.NewLogger(config, cmd.ErrOrStderr()),
			})
			if err != nil {
				return err
			}
			defer collectOnSignal(cmd.Context(), h)()
			return h.Run(cmd.Context())
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML file of keys, each named as its flag")
	return cmd
}

func loadConfig(cmd *cobra.Command, file string, environ []string) error {
	if err := hub.ApplyEnv(cmd.Flags(), environ); err != nil {
		return err
	}
	if file == "" {
		for _, pair := range environ {
			if name, ok := cutEnv(pair, "TETHERLINE_CONFIG"); ok {
				file = name
			}
		}
	}
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	return hub.ApplyFile(cmd.Flags(), file)
}

func cutEnv(pair, name string) (string, bool) {
	if len(pair) > len(name) && pair[:len(name)] == name && pair[len(name)] == '=' {
		return pair[len(name)+1:], true
	}
	return "", false
}
