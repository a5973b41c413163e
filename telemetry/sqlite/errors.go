package sqlite

import (
	"errors"
	"fmt"

	"github.com/tetherline/tetherline/telemetry"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sinkError gives a failed write its class. A full disk, a damaged file and a
// lock all mean that the rows must be kept; only rows that cannot be decoded
// are at fault themselves.
func sinkError(err error) error {
	se := &telemetry.SinkError{Class: telemetry.Retry, Err: fmt.Errorf("sqlite: %w", err)}
	var de *driver.Error
	if !errors.As(err, &de) {
		if errors.Is(err, errUndecodable) {
			se.Class = telemetry.BadRows
		}
		return se
	}
	advice := ""
	switch de.Code() & 0xff { // without the extension
	case sqlite3.SQLITE_FULL:
		advice = "the disk is full: free some space, or bound the store"
	case sqlite3.SQLITE_IOERR:
		advice = "the disk fails: see the system's log"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		advice = "the file is damaged: restore it, or move it away to begin a new one"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH:
		se.Class = telemetry.Misconfigured
		advice = "the file cannot be written: check its owner, its mode and its file system"
	case sqlite3.SQLITE_TOOBIG:
		se.Class = telemetry.BadRows
	}
	if advice != "" {
		se.Err = fmt.Errorf("%w (%s)", se.Err, advice)
	}
	return se
}
