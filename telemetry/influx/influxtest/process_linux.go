package influxtest

import "syscall"

// dieWithParent ends the server with the test binary, even one that is
// killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
