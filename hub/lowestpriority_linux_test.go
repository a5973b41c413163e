package hub_test

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowestPriority has this process run only where no other wants the
// processor: as on a machine of its own, it then takes no time from the hub
// but what the hub spends on it. sched(7), SCHED_IDLE.
func lowestPriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads { // those that come later are as these
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			return err
		}
	}
	return nil
}
