//go:build unix

package firmwaresim_test

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyCollect is hubd's: SIGUSR1 has the hub collect its garbage.
func notifyCollect(asked chan<- os.Signal) { signal.Notify(asked, syscall.SIGUSR1) }
