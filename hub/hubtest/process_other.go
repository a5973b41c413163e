//go:build !linux

package hubtest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
