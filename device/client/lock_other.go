//go:build !unix

package client

import "os"

// lockFile opens path. There is no lock here: the caller sees to it that one
// process uses it.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
