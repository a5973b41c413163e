package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/hub"
)

func recoverCommand(environ []string) *cobra.Command {
	config := hub.DefaultConfig()
	var file string
	cmd := &cobra.Command{
		Use:   "recover-admin --data DIR",
		Short: "Write a new admin token when every one is lost (the hub must be stopped)",
		Long: `Make one more admin, named by the time, and write its token to DIR/admin.token.
The hub must be stopped. All operators keep their tokens: delete those that
should not ("hubctl operator ls", "hubctl operator rm NAME"). It takes the same
configuration as "hubd serve".`,
		Example: "  hubd recover-admin --data /var/lib/tetherline",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadConfig(cmd, file, environ); err != nil {
				return err
			}
			token, err := hub.RecoverAdmin(cmd.Context(), config, hub.NewLogger(config, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The new admin token is in", token)
			return err
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML file of keys, each named as its flag")
	return cmd
}
