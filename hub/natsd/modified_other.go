//go:build !linux

package natsd

import (
	"os"
	"time"
)

// modified is when the entries of a folder changed last.
func modified(path string) (time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
