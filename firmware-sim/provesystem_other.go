//go:build !linux

package firmwaresim

import (
	"errors"
	"math"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

// smallDisk is a file system of its own that can be filled up.
type smallDisk struct{ folder string }

func newSmallDisk(string, int64) (*smallDisk, error) {
	return nil, errors.New("a disk of its own is mounted on Linux alone")
}

func (d *smallDisk) fill() error  { return errors.ErrUnsupported }
func (d *smallDisk) free() error  { return errors.ErrUnsupported }
func (d *smallDisk) close() error { return errors.ErrUnsupported }

func holdFolder(string) (release func(), err error) { return func() {}, nil }

func freeLeftDisks(func(format string, args ...any)) {}

func removeLeftProofs(func(format string, args ...any)) {}

func removeLeftLoads() {}

func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
