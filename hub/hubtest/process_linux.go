package hubtest

import "syscall"

// dieWithParent ends a hub with the test binary, even one that is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
