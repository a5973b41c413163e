package natsd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// How the embedded server is watched and restarted.
const (
	watchInterval = 10 * time.Second // besides a look at every warning of the server
	firstRetry    = 500 * time.Millisecond
	lastRetry     = 30 * time.Second
	// settled: a fault that comes back sooner than this waits on, longer
	// each time, so that a disk that fails at once is not hammered.
	settled = time.Minute
)

// look asks the watching goroutine to look for a fault now.
func (e *embedded) look() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// watch looks for a fault of the server and restarts it, until quit.
func (e *embedded) watch() {
	defer close(e.done)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	delay := firstRetry
	var restarted time.Time
	for {
		select {
		case <-e.quit:
			return
		case <-e.wake:
		case <-ticker.C:
		}
		err := serverFault(e.srv) // only this goroutine changes srv
		if err == nil {
			continue
		}
		if time.Since(restarted) > settled {
			delay = firstRetry
		}
		e.setFault(err)
		e.log.Error("nats server refuses writes; it is restarted when the disk takes them again", "error", err)
		if !e.recover(&delay) {
			return
		}
		restarted = time.Now()
	}
}

// recover tries until the server runs again; false: quit came first.
func (e *embedded) recover(delay *time.Duration) bool {
	for {
		timer := time.NewTimer(*delay)
		select {
		case <-e.quit:
			timer.Stop()
			return false
		case <-timer.C:
		}
		*delay = min(*delay*2, lastRetry)
		err := e.restart()
		if err == nil {
			return true
		}
		e.setFault(err)
		e.log.Warn("nats server is not back yet", "error", err, "retry_in", *delay)
	}
}

func (e *embedded) restart() error {
	if err := probeDisk(e.cfg.Dir); err != nil {
		return fmt.Errorf("disk does not take writes: %w", err)
	}
	e.mu.Lock()
	old := e.srv
	e.srv = nil
	e.mu.Unlock()
	e.shutMQTT()
	if old != nil {
		shutdown(old)
	}
	if err := rewriteLastBlocks(e.cfg.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.StartTimeout)
	defer cancel()
	srv, err := e.run(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.srv, e.fault = srv, nil
	e.restarts++
	count := e.restarts
	e.mu.Unlock()
	e.log.Info("nats server restarted after a disk error", "restarts", count)
	return nil
}

func (e *embedded) setFault(err error) {
	e.mu.Lock()
	e.fault = err
	e.mu.Unlock()
}

// health is the fault being recovered from, or what the server says now.
func (e *embedded) health() error {
	e.mu.RLock()
	srv, fault := e.srv, e.fault
	e.mu.RUnlock()
	if fault != nil {
		return fault
	}
	if srv == nil {
		return errors.New("nats server is stopped")
	}
	err := serverFault(srv)
	if err != nil {
		e.look()
	}
	return err
}

// serverFault is an error where JetStream is off, a stream could not be
// recovered, or one refuses writes after an I/O error.
func serverFault(srv *server.Server) error {
	if srv == nil {
		return errors.New("nats server is stopped")
	}
	var unrecovered error
	for range faultTries {
		status := srv.Healthz(nil)
		if status.Error == "" {
			return nil
		}
		// It says so of a stream, too, that has its folder and is being made:
		// on a slow machine that takes a while.
		if strings.HasSuffix(status.Error, "could not be recovered") {
			unrecovered = errors.New(status.Error)
			time.Sleep(unmadeWithin / faultTries)
			continue
		}
		// Healthz gives the server a millisecond to say that it takes
		// connections, and 500 where this goroutine had to wait longer for a
		// processor. That is no fault of the server.
		if status.StatusCode != http.StatusInternalServerError {
			return errors.New(status.Error)
		}
		if !srv.ReadyForConnections(readyWithin) {
			return errors.New(status.Error)
		}
	}
	return unrecovered
}

// How patient serverFault is with a machine under load.
const (
	faultTries   = 10
	readyWithin  = 5 * time.Second
	unmadeWithin = 5 * time.Second
)
