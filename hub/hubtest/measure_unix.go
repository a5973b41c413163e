//go:build unix

package hubtest

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"
)

// ReportMemory has this process report its memory into dir whenever it gets
// SIGUSR1.
func ReportMemory(dir string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			if err := reportMemory(dir); err != nil {
				fmt.Fprintln(os.Stderr, "report memory:", err)
			}
		}
	}()
}

// MemoryOf a process that has called ReportMemory with dir.
func MemoryOf(t testing.TB, p *os.Process, dir string) Memory {
	t.Helper()
	return readMemory(t, dir, func() {
		if err := p.Signal(syscall.SIGUSR1); err != nil {
			t.Fatalf("ask for memory: %v", err)
		}
	})
}

// turnOnSignal has this process begin its next profile whenever it gets SIGUSR2.
func (p *profiler) turnOnSignal() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for range asked {
			p.turn()
		}
	}()
}

// NextProfile has the hub end its CPU profile and begin the next, where
// ProfileEnv asks for profiles. It does not wait for that.
func (p *Process) NextProfile() { p.Signal(syscall.SIGUSR2) }

// endProfile has the hub end its CPU profile, and waits for that.
func (p *Process) endProfile() {
	if p.profile == "" {
		return
	}
	select {
	case <-p.ended:
		return // it has written what it would
	default:
	}
	before := parts(p.profile)
	p.NextProfile()
	for limit := time.Now().Add(Patience); len(parts(p.profile)) == len(before) && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond)
	}
	for _, file := range parts(p.profile) {
		if !slices.Contains(before, file) {
			_ = os.Remove(file) // nothing will be written there
		}
	}
}

// Memory of the hub.
func (p *Process) Memory() Memory {
	p.t.Helper()
	return MemoryOf(p.t, p.cmd.Process, p.cfg.Data)
}
