package natsd

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// clockTick is how coarse the times of folders may be: two changes within it
// may leave the same time.
const clockTick = 50 * time.Millisecond

// folders makes the names of the server's files durable. The server syncs what
// it writes into a block, but not the folder when it begins one: after a loss
// of power the block may be whole and have no name, which POSIX allows. All
// methods may run at once.
type folders struct {
	root string // the server's store folder

	mu    sync.Mutex
	known map[string]*streamFolders // by stream
}

// streamFolders are those of one stream that change while it is written to.
type streamFolders struct {
	mu     sync.Mutex
	paths  []string
	synced []time.Time // the times of paths when they were last synced
}

func newFolders(root string) *folders {
	return &folders{root: root, known: make(map[string]*streamFolders)}
}

// settle makes the names of a stream's files durable: those that there were
// when it was called. It costs a stat of two folders where none is new.
func (f *folders) settle(stream string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	f.mu.Lock()
	s := f.known[stream]
	if s == nil {
		s = new(streamFolders)
		f.known[stream] = s
	}
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paths == nil {
		if err := s.find(f.root, stream); err != nil {
			return fmt.Errorf("make the files of stream %s durable: %w", stream, err)
		}
	}
	for i, path := range s.paths {
		if err := settleFolder(path, &s.synced[i]); err != nil {
			s.paths = nil
			return fmt.Errorf("make the files of stream %s durable: %w", stream, err)
		}
	}
	return nil
}

// find looks for a stream's folders, and syncs those above them, which do not
// change any more.
func (s *streamFolders) find(root, stream string) error {
	found, err := filepath.Glob(filepath.Join(root, server.JetStreamStoreDir, "*", "streams", stream, "msgs"))
	if err != nil {
		return err
	}
	var paths []string
	above := map[string]bool{root: true, filepath.Dir(root): true}
	for _, path := range found {
		own := filepath.Dir(path)
		paths = append(paths, path, own)
		for up := filepath.Dir(own); len(up) > len(root); up = filepath.Dir(up) {
			above[up] = true
		}
	}
	for path := range above {
		if err := SyncFolder(path); err != nil {
			return err
		}
	}
	s.paths, s.synced = paths, make([]time.Time, len(paths))
	return nil
}

// settleFolder syncs a folder that has changed since it was synced.
func settleFolder(path string, synced *time.Time) error {
	changed, err := modified(path)
	if err != nil {
		return err
	}
	if changed.Equal(*synced) {
		return nil
	}
	// A time in the future is one of before the clock was set back.
	settled := time.Since(changed).Abs() > clockTick
	if err := SyncFolder(path); err != nil {
		return err
	}
	if settled {
		*synced = changed
	}
	return nil
}
