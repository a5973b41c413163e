//go:build unix

package contexts

import "io/fs"

func exposed(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }
