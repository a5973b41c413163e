package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tetherline/tetherline/hub"
)

func mqttPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mqtt-password",
		Short: "Make the password-hash of a user of the embedded MQTT broker",
		Long: `Read a password, one line from standard input, and print what stands for it in
the file that --mqtt-users names, as password-hash. The password itself is kept
nowhere.`,
		Example: `  hubd mqtt-password
  openssl rand -hex 16 | tee plug.password | hubd mqtt-password`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			hash, err := hub.HashMQTTPassword(password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), hash)
			return err
		},
	}
}

// readPassword reads a line; from a terminal without showing it.
func readPassword(in io.Reader, prompt io.Writer) ([]byte, error) {
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		_, _ = fmt.Fprint(prompt, "password: ")
		password, err := term.ReadPassword(int(file.Fd()))
		_, _ = fmt.Fprintln(prompt)
		return password, err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	return []byte(strings.TrimRight(line, "\r\n")), nil
}
