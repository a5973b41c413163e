//go:build !unix

package contexts

import "io/fs"

// exposed has nothing to go by where modes do not tell who may read a file.
func exposed(fs.FileMode) bool { return false }
