//go:build unix

package firmwaresim

import (
	"syscall"
	"time"
)

const canSuspend = true

// suspend stops a program where it stands, with all its connections open.
func (p *program) suspend() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// resume lets it go on.
func (p *program) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// dump ends a program that is stuck, and has a Go program write its stacks to
// its log.
func (p *program) dump() {
	if !p.running() {
		return
	}
	p.meant.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(programStop):
		p.kill()
	}
}
