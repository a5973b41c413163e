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

func useOf(int) (processUse, error) {
	return processUse{}, errors.New("CPU time and memory of another process are known on Linux alone")
}

func ownCPU() time.Duration { return 0 }
