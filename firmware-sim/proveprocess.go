package firmwaresim

import (
	"context"
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
	onExit func(error)   // it has ended by itself: an endedError

	ended atomic.Pointer[endedError] // the newest that ended by itself
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
	p.ended.Store(nil)
	done, cmd := make(chan struct{}), p.cmd
	p.done = done
	go func() {
		defer close(done)
		err := cmd.Wait()
		if p.meant.Load() {
			return
		}
		how := cmd.ProcessState.String() // "exit status 1", "signal: killed"
		if cmd.ProcessState == nil {
			how = fmt.Sprint(err)
		}
		e := &endedError{name: p.name, how: how, said: p.log.end()}
		p.ended.Store(e)
		p.onExit(e)
	}()
	return nil
}

// endedError says that a program has ended by itself.
type endedError struct {
	name, how string
	said      string // the last of its log
}

func (e *endedError) Error() string {
	return e.name + " has ended by itself (" + e.how + ")" + e.words()
}

func (e *endedError) words() string {
	if strings.TrimSpace(e.said) == "" {
		return ", and has said nothing"
	}
	return "; its log ends:\n" + strings.TrimRight(e.said, "\n")
}

// begun is what has become of a program that was started, while it is not
// ready: nil where it runs, and may still be. ctx may end because it has ended.
func (p *program) begun(ctx context.Context) error {
	if e := p.ended.Load(); e != nil {
		return fmt.Errorf("%s ended before it was ready (%s)%s", e.name, e.how, e.words())
	}
	if !p.running() {
		return fmt.Errorf("%s was ended before it was ready", p.name)
	}
	return context.Cause(ctx)
}

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
