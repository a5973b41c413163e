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

// canMeasure: other processes can be looked at.
const canMeasure = true

// useOf a process.
func useOf(pid int) (processUse, error) {
	const utime, stime, rss = 14, 15, 24
	n, err := statOf(pid, utime, stime, rss)
	if err != nil {
		return processUse{}, err
	}
	return processUse{
		user: time.Duration(n[0]) * clockTick, system: time.Duration(n[1]) * clockTick,
		rss: n[2] * int64(os.Getpagesize()),
	}, nil
}

// statOf reads numbers of /proc/PID/stat, by their fields as proc_pid_stat(5)
// counts them.
func statOf(pid int, wanted ...int) (numbers []int64, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The name of the program, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state = 3 // the first behind the name
	for _, field := range wanted {
		if len(fields) <= field-state {
			return nil, errors.New("/proc has too few fields")
		}
		n, err := strconv.ParseInt(fields[field-state], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("field %d of /proc: %w", field, err)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// startOf is when a process was started, in seconds of Unix time.
func startOf(pid int) (float64, error) {
	const starttime = 22 // since the system was booted
	n, err := statOf(pid, starttime)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nbtime ")
	line, _, _ := strings.Cut(rest, "\n")
	booted, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	return float64(booted) + (time.Duration(n[0]) * clockTick).Seconds(), nil
}

// askToCollect tells a hub to collect its garbage.
func askToCollect(pid int) error { return syscall.Kill(pid, syscall.SIGUSR1) }

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
