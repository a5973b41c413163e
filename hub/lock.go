package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
