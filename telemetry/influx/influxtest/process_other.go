//go:build !linux

package influxtest

import "syscall"

// dieWithParent has no counterpart here; the test's clean-up ends the server.
func dieWithParent() *syscall.SysProcAttr { return nil }
