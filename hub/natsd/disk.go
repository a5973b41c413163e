package natsd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// probeBytes is what the disk must take before the server is tried again.
const probeBytes = 1 << 20

// probeDisk writes, syncs and removes a file in dir.
func probeDisk(dir string) (err error) {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	if _, err := f.Write(make([]byte, probeBytes)); err != nil {
		return err
	}
	return f.Sync()
}

// rewriteLastBlocks writes the last message block of every stream anew and
// syncs it. After a failed fsync the kernel may hold pages of it in memory
// that it counts as written and that are not on disk: the server would take
// them for durable, append to them, and lose what follows them when the
// memory is gone.
func rewriteLastBlocks(dir string) error {
	pattern := filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*", "msgs")
	folders, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		block, err := lastBlock(folder)
		if err != nil {
			return err
		}
		if block == "" {
			continue
		}
		if err := rewrite(block); err != nil {
			return fmt.Errorf("write the last block of a stream anew: %w", err)
		}
	}
	return nil
}

// lastBlock is the path of the block with the highest number; "": none.
func lastBlock(folder string) (string, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	last, path := -1, ""
	for _, file := range files {
		number, isBlock := strings.CutSuffix(file.Name(), ".blk")
		i, err := strconv.Atoi(number)
		if isBlock && err == nil && i > last {
			last, path = i, filepath.Join(folder, file.Name())
		}
	}
	return path, nil
}

func rewrite(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, os.Remove(to.Name()))
	}
	if err := os.Rename(to.Name(), path); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
