package hubtest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
)

// ProfileEnv names the file for a CPU profile of the first hub process that is
// started. That of the second is the same name with .hub2 behind it, and so on,
// where a test starts several or one again. NextProfile divides a profile.
const ProfileEnv = "TETHERLINE_TEST_CPUPROFILE"

// profiled is how many hub processes have written profiles.
var profiled atomic.Int32

// newProfile is the file for the profile of the next process, "" for none. What
// an earlier run has left there is removed.
func newProfile() string {
	name := os.Getenv(ProfileEnv)
	if name == "" {
		return ""
	}
	if n := profiled.Add(1); n > 1 {
		name = fmt.Sprintf("%s.hub%d", name, n)
	}
	for _, file := range append(parts(name), name) {
		_ = os.Remove(file)
	}
	return name
}

// parts of a profile after the first one.
func parts(profile string) []string {
	files, _ := filepath.Glob(profile + ".[0-9]*")
	return files
}

// profiler writes the profiles that ProfileEnv asks for, one after the other.
// Its methods may run at once.
type profiler struct {
	mu   sync.Mutex
	file *os.File // nil: none is being written
	next int
}

// turn ends the profile under way and begins the next one: the file that
// ProfileEnv names, and then .1, .2 and so on.
func (p *profiler) turn() {
	name := os.Getenv(ProfileEnv)
	if name == "" {
		return
	}
	p.end() // the next file says that this one is whole
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next > 0 {
		name += "." + strconv.Itoa(p.next)
	}
	p.next++
	file, err := os.Create(name)
	if err == nil && pprof.StartCPUProfile(file) == nil {
		p.file = file
	}
}

func (p *profiler) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		pprof.StopCPUProfile()
		_ = p.file.Close()
		p.file = nil
	}
}
