package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tetherline/tetherline/hub/natsd"
)

// ErrLocked says that another hub runs on the data folder.
var ErrLocked = errors.New("another hub runs on this data folder")

// lockFolder takes the lock of a data folder until the file is closed. The
// system drops it when the process ends, however it ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock data folder %s: %w", dir, err)
	}
	return f, nil
}

// makeFolder makes a folder and those above it where they are missing, durably.
func makeFolder(dir string, mode os.FileMode) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	grown := []string{filepath.Dir(dir)} // an earlier start may have been cut short
	for up := filepath.Dir(dir); up != filepath.Dir(up); up = filepath.Dir(up) {
		if _, err := os.Stat(up); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		grown = append(grown, filepath.Dir(up))
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	for _, folder := range grown {
		// A folder that is not ours to read was not made just now.
		if err := natsd.SyncFolder(folder); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}
