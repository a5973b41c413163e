package influxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// errExited says that the server ended before it answered: its port may be
// taken.
var errExited = errors.New("influxd exited before it answered")

// process is one run of the server.
type process struct {
	cmd  *exec.Cmd
	log  *tailBuffer
	done chan struct{} // closed when the process is gone and reaped
}

// run starts the server and waits until it answers.
func (s *Server) run() error {
	config := filepath.Join(s.dir, "influxd.toml")
	if err := os.WriteFile(config, []byte(s.config()), 0o600); err != nil {
		return err
	}
	p := &process{
		cmd:  exec.Command(s.binary, "run", "-config", config),
		log:  &tailBuffer{},
		done: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), s.opts.settings...)
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.binary, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	if err := s.awaitHealthy(p); err != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%w; its log ends:\n%s", err, p.log.tail())
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return nil
}

func (s *Server) awaitHealthy(p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		select {
		case <-p.done:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("not healthy within %v: %w", startTimeout, last)
		case <-tick.C:
			if last = s.healthy(ctx); last != nil {
				continue
			}
		}
		// Another program on the same port would be healthy too.
		select {
		case <-p.done:
			return errExited
		default:
			return nil
		}
	}
}

// config turns off what writes or listens beside the database itself.
// Durability is left as it ships: every write is fsynced. Flux is off, as it
// ships: the server compiles Flux's library at its start, which takes two
// seconds of CPU.
func (s *Server) config() string {
	return fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = %[1]q
  logging-enabled = false
[data]
  dir = %[2]q
  wal-dir = %[3]q
  index-version = "inmem"
  query-log-enabled = false
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = %[4]q
  auth-enabled = %[5]t
  log-enabled = false
`, filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"), filepath.Join(s.dir, "wal"),
		strings.TrimPrefix(s.URL, "http://"), s.opts.user != "")
}

// tailBuffer keeps the end of the server's log for the message of a failure.
type tailBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailBytes = 16 << 10

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if over := b.buf.Len() - tailBytes; over > 0 {
		b.buf.Next(over)
	}
	return len(p), nil
}

func (b *tailBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
