package firmwaresim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processUse is what a process has used.
type processUse struct {
	user, system time.Duration // of CPU
	rss          int64         // bytes, now
}

// clockTick is the unit of CPU times in /proc, the same on every Linux.
const clockTick = time.Second / 100

// useOf reads /proc/PID/stat; see proc_pid_stat(5).
func useOf(pid int) (processUse, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processUse{}, err
	}
	// The name of the program, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state, utime, stime, rss = 3, 14, 15, 24 // fields, from 1
	if len(fields) <= rss-state {
		return processUse{}, errors.New("/proc has too few fields")
	}
	number := func(field int) int64 {
		n, e := strconv.ParseInt(fields[field-state], 10, 64)
		if e != nil {
			err = fmt.Errorf("field %d of /proc: %w", field, e)
		}
		return n
	}
	u := processUse{
		user: time.Duration(number(utime)) * clockTick, system: time.Duration(number(stime)) * clockTick,
		rss: number(rss) * int64(os.Getpagesize()),
	}
	return u, err
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
