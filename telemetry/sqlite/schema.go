package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	driver "modernc.org/sqlite"
)

// What marks a file as ours, and the version of its tables.
const (
	applicationID = 0x54_4c_52_31 // "TLR1"
	schemaVersion = 1
)

// inlineBytes is the largest blob in the table rows. The tree of a table WITHOUT
// ROWID compares whole rows, and a row that does not fit the page it is on
// (from about 1,000 bytes) would be read in full by every search that passes
// it. Larger blobs are in the table large, and their id in their place.
const inlineBytes = 900

// schema: fields.id is what a blob in rows calls the field; newest is the
// hour (Unix) of its newest value, so that the newest value is found without
// a search through the past. streams.fields counts ids given out, ever.
const schema = `
CREATE TABLE streams (
	id          INTEGER PRIMARY KEY,
	device      TEXT NOT NULL,
	measurement TEXT NOT NULL,
	fields      INTEGER NOT NULL DEFAULT 0,
	UNIQUE (device, measurement)
) STRICT;
CREATE TABLE fields (
	stream INTEGER NOT NULL,
	id     INTEGER NOT NULL,
	name   TEXT NOT NULL,
	newest INTEGER NOT NULL,
	PRIMARY KEY (stream, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE rows (
	stream INTEGER NOT NULL,
	time   INTEGER NOT NULL,
	fields ANY NOT NULL,
	PRIMARY KEY (stream, time)
) STRICT, WITHOUT ROWID;
CREATE TABLE large (
	id     INTEGER PRIMARY KEY,
	fields BLOB NOT NULL
) STRICT;
`

// Memory and log bounds. The log is folded into the file by foldLog, not by
// SQLite's own checkpoints: those begin the log anew only when no reader is in
// it, so that it grows without bound where readers overlap without end, and
// every commit then goes through all of it once more. 16 MiB instead of
// SQLite's 4 write a page that many commits have touched once.
const (
	writerCacheKiB = 32 << 10
	readerCacheKiB = 8 << 10
	logBytes       = 16 << 20
	busyMillis     = 10_000
)

// openFile opens the file twice: one connection that writes, several that
// read.
func openFile(ctx context.Context, path string) (write, read *sql.DB, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	// Readings are nobody else's business: SQLite gives the files beside it
	// the same mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	write, err = openDB(path, 1,
		"auto_vacuum(INCREMENTAL)",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"cache_size(-"+strconv.Itoa(writerCacheKiB)+")",
		"wal_autocheckpoint(0)",
		"temp_store(MEMORY)")
	if err != nil {
		return nil, nil, err
	}
	if err := migrate(ctx, write); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read, err = openDB(path, readers,
		"query_only(1)",
		"cache_size(-"+strconv.Itoa(readerCacheKiB)+")",
		"temp_store(MEMORY)")
	if err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	return write, read, nil
}

// syncFolder makes the name of a file durable, which SQLite leaves to whoever
// made the file.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func openDB(path string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": append([]string{"busy_timeout(" + strconv.Itoa(busyMillis) + ")"}, pragmas...)}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	connector, err := driver.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// migrate makes the tables of a new file, and refuses files that are not ours
// or of a later release.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var application, version, tables int64
	if err := errors.Join(
		tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application),
		tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version),
		tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables),
	); err != nil {
		return err
	}
	switch {
	case tables == 0:
	case application != applicationID:
		return errors.New("the file is a database of another program")
	case version != schemaVersion:
		return fmt.Errorf("the file has version %d of the tables, this release knows version %d", version, schemaVersion)
	default:
		return nil
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}
