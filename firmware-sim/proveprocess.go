package firmwaresim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// program is a process that a proof has started, and breaks: the hub, or its
// store. One goroutine starts and ends it.
type program struct {
	name string
	path string
	args []string
	env  []string
	log  *boundedLog

	cmd    *exec.Cmd
	done   chan struct{} // closed when it is gone
	meant  atomic.Bool   // it was told to end
	onExit func(error)   // it has ended by itself
}

// start does not wait for more than the process.
func (p *program) start() error {
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.meant.Store(false)
	done, cmd := make(chan struct{}), p.cmd
	p.done = done
	go func() {
		defer close(done)
		if err := cmd.Wait(); !p.meant.Load() {
			p.onExit(fmt.Errorf("%s has ended by itself: %w", p.name, errors.Join(err, errEnded)))
		}
	}()
	return nil
}

var errEnded = errors.New("nobody told it to")

func (p *program) running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends it with SIGKILL and waits until it is gone.
func (p *program) kill() {
	if p.done == nil {
		return
	}
	p.meant.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends it in good order, and by force where that takes too long.
func (p *program) stop(patience time.Duration) error {
	if !p.running() {
		return nil
	}
	p.meant.Store(true)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.kill()
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("%s has not stopped within %v", p.name, patience)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s was told to stop and ended with status %d", p.name, code)
	}
	return nil
}

// cleanEnvironment is this process's, without what would configure the hub.
func cleanEnvironment() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "TETHERLINE_") && !strings.HasPrefix(pair, "INFLUXDB_") {
			env = append(env, pair)
		}
	}
	return env
}

// boundedLog is the newest of what programs say, in a file and the one before
// it.
type boundedLog struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int
	tail []byte
}

const (
	logFileBytes = 8 << 20
	logTailBytes = 4 << 10
)

func openBoundedLog(path string) (*boundedLog, error) {
	file, err := os.Create(path)
	return &boundedLog{path: path, file: file}, err
}

func (l *boundedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size += len(b); l.size > logFileBytes {
		_ = l.file.Close()
		_ = os.Rename(l.path, l.path+".old")
		file, err := os.Create(l.path)
		if err != nil {
			return 0, err
		}
		l.file, l.size = file, len(b)
	}
	l.tail = append(l.tail, b...)
	if over := len(l.tail) - logTailBytes; over > 0 {
		l.tail = l.tail[over:]
	}
	return l.file.Write(b)
}

// end is the last of what was said.
func (l *boundedLog) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}

func (l *boundedLog) close() { _ = l.file.Close() }
