//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/tetherline/tetherline/hub"
)

// collectOnSignal has the hub collect its garbage on SIGUSR1, until end is
// called.
func collectOnSignal(ctx context.Context, h *hub.Hub) (end func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	ctx, cancel := context.WithCancel(ctx)
	var collecting sync.WaitGroup
	collecting.Go(func() { h.CollectOn(ctx, asked) })
	return func() {
		signal.Stop(asked)
		cancel()
		collecting.Wait()
	}
}
