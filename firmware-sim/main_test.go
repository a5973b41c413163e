package firmwaresim_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub"
)

func TestMain(m *testing.M) {
	hubMain()
	goleak.VerifyTestMain(m)
}

// hubMain becomes a hub, and does not return, where this process was started
// as `hubd serve`: a proof runs the hub as a process, and so with the race
// detector.
func hubMain() {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		return
	}
	if err := serve(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(args []string) error {
	cfg := hub.DefaultConfig()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	h, err := hub.New(ctx, cfg, hub.Options{Version: "test", Logger: hub.NewLogger(cfg, os.Stderr)})
	if err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	notifyCollect(asked)
	go h.CollectOn(ctx, asked)
	return h.Run(ctx)
}
