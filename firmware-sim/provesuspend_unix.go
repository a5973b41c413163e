//go:build unix

package firmwaresim

import "syscall"

const canSuspend = true

// suspend stops a program where it stands, with all its connections open.
func (p *program) suspend() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// resume lets it go on.
func (p *program) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
