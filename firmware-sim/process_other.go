//go:build !linux

package firmwaresim

import (
	"errors"
	"time"
)

// processUse is what a process has used.
type processUse struct {
	user, system time.Duration // of CPU
	rss          int64         // bytes, now
}

// canMeasure: other processes can be looked at.
const canMeasure = false

var errLinuxOnly = errors.New("CPU time and memory of another process are known on Linux alone")

func useOf(int) (processUse, error) { return processUse{}, errLinuxOnly }

func startOf(int) (float64, error) { return 0, errLinuxOnly }

func askToCollect(int) error { return errLinuxOnly }

func ownCPU() time.Duration { return 0 }
