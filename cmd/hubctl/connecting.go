package main

import "github.com/spf13/cobra"

func connectingTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "connecting",
		Short: "How a hub, a token and a CA are chosen",
		Long: `How hubctl finds the hub, the token and the CA. Each comes from the first that
gives one:

  1. --hub, --token, --ca
  2. the saved context named by --context
  3. --data DIR, the data folder of a hub on this machine: its operator.url,
     admin.token and ca.pem
  4. TETHERLINE_HUB, TETHERLINE_TOKEN, TETHERLINE_CA
  5. the saved context of TETHERLINE_CONTEXT, or else the current one
     ('hubctl context use'); only where nothing above names a hub, so that a
     saved token never goes to another hub

Without any, the hub is https://127.0.0.1:8443 and the CA one of the system's.

A token on a command line can be seen by other users of the machine: write
--token @FILE, or set TETHERLINE_TOKEN (@FILE works there too), or save a
context. Contexts are kept in ${XDG_CONFIG_HOME:-~/.config}/tetherline/hubctl.yaml,
which only its owner can read.

http:// is accepted for this machine alone (127.0.0.1, ::1, localhost).`,
	}
}
