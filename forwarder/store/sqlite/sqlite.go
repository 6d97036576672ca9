// Package sqlite keeps the entries of a store in a SQLite file, in the schema of Broker: a file
// that Broker has written can be opened, and the sqlite3 shell reads it.
//
//	CREATE TABLE meta(key text primary key, value text);
//	CREATE TABLE store(key blob primary key, value blob, expiry integer,
//	                   seq integer, modified integer, who text);
//
// Key and value are in broker-bin-v1; expiry and modified are nanoseconds since 1970. Broker has
// the first three columns. The row zmtpd_seq of meta has the number of the last change.
//
// It is a package of its own because SQLite, translated to Go, takes long to compile and to link.
package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// magic begins each SQLite file (https://sqlite.org/fileformat.html).
const magic = "SQLite format 3\x00"

// A WAL above this size is cut when it has been written to the file.
const walLimit = 64 << 20

const (
	// Memory bounds the pages in memory of one file, in bytes. A commit needs pages all over the
	// file; one that is not in memory is read, and perhaps written once more.
	Memory = 8 << 20
	// checkpointAt is the number of pages in the WAL from which on they are written to the file. The
	// same pages come again and again, so few large checkpoints write less than many small ones.
	checkpointAt = walLimit / 2 / 4096
	// rows is how many entries one statement writes: most of a commit of single rows would be what
	// calls of SQLite cost.
	rows = 32
)

const seqRow = "zmtpd_seq"

type backend struct {
	path string
	db   *sql.DB
	lock *sql.DB // holds the lock that keeps other processes away

	put, putRows, erase, clear, note *sql.Stmt

	seq uint64 // of the last change in the file
}

// Open opens the file of a store, and makes it if there is none. A file that is damaged, or that is
// not one of a store, is an error of the code [store.CannotOpenFile], and stays as it is. So is one
// that another process has opened with this package.
func Open(path string, sync store.Sync) (store.Backend, error) {
	b, err := open(path, sync)
	if err != nil {
		return nil, store.Errorf(store.CannotOpenFile, "%s: %v", path, err)
	}
	return b, nil
}

func open(path string, sync store.Sync) (_ *backend, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	b := &backend{path: path}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.lock, err = lock(path + ".lock"); err != nil {
		return nil, err
	}
	if err := checkFile(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("cannot make the file: %w", err)
		}
	} else if err != nil {
		return nil, err
	}
	synchronous := "FULL"
	if sync != store.Always {
		synchronous = "NORMAL" // the WAL is written to the operating system, and synced by Sync
	}
	b.db = connect(path, "journal_mode(WAL)", "synchronous("+synchronous+")",
		"journal_size_limit("+strconv.Itoa(walLimit)+")",
		"cache_size(-"+strconv.Itoa(Memory>>10)+")",
		"wal_autocheckpoint("+strconv.Itoa(checkpointAt)+")")
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, b.prepare()
}

// connect opens a database with one connection. Errors come with the first use.
func connect(path string, pragmas ...string) *sql.DB {
	name := (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String() + "?_pragma=" +
		strings.Join(pragmas, "&_pragma=")
	db, err := sql.Open("sqlite", name)
	if err != nil { // the driver is not linked
		panic(err)
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db
}

// lock takes a lock that the operating system ends with the process, in a database of its own: the
// file of the store itself stays readable for others.
func lock(path string) (*sql.DB, error) {
	db := connect(path, "locking_mode(EXCLUSIVE)", "journal_mode(OFF)")
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		db.Close()
		if strings.Contains(err.Error(), "SQLITE_BUSY") {
			return nil, errors.New("another process has opened the store; end it first")
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return db, nil
}

// checkFile checks that there is a SQLite file, and that its end is there, which SQLite does not
// check: it reads zeros.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 32)
	if _, err := io.ReadFull(f, head); err != nil || !bytes.HasPrefix(head, []byte(magic)) {
		return errors.New("this is no SQLite file, or its beginning is damaged; it stays as it is: " +
			"put a copy in its place, or move it away to begin with an empty store")
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return nil // it has pages that the file may lack
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 65536
	}
	if want := page * int64(binary.BigEndian.Uint32(head[28:])); info.Size() < want {
		return damaged(fmt.Sprintf("it has %d bytes instead of %d", info.Size(), want))
	}
	return nil
}

// create makes an empty file of a store under another name first, so that a crash leaves either
// a whole file or none.
func create(path string) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db := connect(fresh, "journal_mode(DELETE)", "synchronous(FULL)")
	_, err := db.Exec(`
		CREATE TABLE meta(key text primary key, value text);
		CREATE TABLE store(key blob primary key, value blob, expiry integer);
		INSERT INTO meta(key, value) VALUES('` + seqRow + `', '0');`)
	if e := db.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	// A WAL that a removed file has left belongs to that file.
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); err == nil {
			return fmt.Errorf("%s is there without its file; put the file back, or move it away too",
				path+suffix)
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// check checks the pages of the file and the schema, and adds the columns that Broker does not
// have.
func (b *backend) check() error {
	rows, err := b.db.Query("PRAGMA quick_check(3)")
	if err != nil {
		return damaged(err.Error())
	}
	var faults []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return damaged(err.Error())
		}
		if line != "ok" {
			faults = append(faults, line)
		}
	}
	if err := rows.Err(); err != nil {
		return damaged(err.Error())
	}
	if len(faults) > 0 {
		return damaged(strings.Join(faults, "; "))
	}
	columns := map[string]bool{}
	rows, err = b.db.Query("SELECT name FROM pragma_table_info('store')")
	if err != nil {
		return err
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		columns[name] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if !columns["key"] || !columns["value"] || !columns["expiry"] {
		return errors.New("this is a SQLite file, but not that of a store: it has no table store with" +
			" the columns key, value and expiry")
	}
	for _, column := range []string{"seq integer", "modified integer", "who text"} {
		if name, _, _ := strings.Cut(column, " "); !columns[name] {
			if _, err := b.db.Exec("ALTER TABLE store ADD COLUMN " + column); err != nil {
				return err
			}
		}
	}
	_, err = b.db.Exec("CREATE TABLE IF NOT EXISTS meta(key text primary key, value text)")
	return err
}

func damaged(what string) error {
	return fmt.Errorf("the file is damaged (%s); it stays as it is: save what is left with"+
		" `sqlite3 FILE .recover`, put a copy in its place, or move it away to begin with an empty store",
		what)
}

func (b *backend) prepare() (err error) {
	const row = "(?, ?, ?, ?, ?, ?)"
	put := func(n int) string {
		return "INSERT INTO store(key, value, expiry, seq, modified, who) VALUES" + row +
			strings.Repeat(", "+row, n-1) + " ON CONFLICT(key) DO UPDATE SET value = excluded.value," +
			" expiry = excluded.expiry, seq = excluded.seq, modified = excluded.modified," +
			" who = excluded.who"
	}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&b.put, put(1)},
		{&b.putRows, put(rows)},
		{&b.erase, "DELETE FROM store WHERE key = ?"},
		{&b.clear, "DELETE FROM store"},
		{&b.note, "REPLACE INTO meta(key, value) VALUES('" + seqRow + "', ?)"},
	} {
		if *s.stmt, err = b.db.Prepare(s.text); err != nil {
			return err
		}
	}
	return nil
}

// Load implements store.Backend.
func (b *backend) Load(add func(*store.Entry) error) (seq uint64, err error) {
	var text string
	err = b.db.QueryRow("SELECT value FROM meta WHERE key = '" + seqRow + "'").Scan(&text)
	if err == nil {
		seq, err = strconv.ParseUint(text, 10, 64)
	} else if errors.Is(err, sql.ErrNoRows) {
		seq, err = 1, nil // what Broker has written counts as one change
	}
	if err != nil {
		return 0, b.fault("row "+seqRow+" of table meta", err)
	}
	rows, err := b.db.Query("SELECT rowid, key, value, expiry, seq, modified, who FROM store")
	if err != nil {
		return 0, b.fault("table store", err)
	}
	defer rows.Close()
	for rows.Next() {
		var rowid int64
		var key, value []byte
		var expiry, number, modified sql.NullInt64
		var who sql.NullString
		err := rows.Scan(&rowid, &key, &value, &expiry, &number, &modified, &who)
		if err != nil {
			return 0, b.fault("table store", err)
		}
		e := &store.Entry{Expires: instant(expiry), Modified: instant(modified), Who: who.String,
			Seq: uint64(max(number.Int64, 1))}
		if e.Key, err = event.Parse(key); err != nil {
			return 0, b.fault(fmt.Sprintf("the key of row %d of table store", rowid), err)
		}
		raw, err := event.Parse(value)
		if err != nil {
			return 0, b.fault(fmt.Sprintf("the value of row %d of table store", rowid), err)
		}
		e.Value = store.Whole(raw)
		if err := add(e); err != nil {
			return 0, err
		}
	}
	if err := rows.Err(); err != nil {
		return 0, b.fault("table store", err)
	}
	b.seq = seq
	return seq, nil
}

func (b *backend) fault(where string, err error) error {
	return store.Errorf(store.CannotOpenFile, "%s: %s: %v; the file stays as it is", b.path, where, err)
}

func instant(ns sql.NullInt64) time.Time {
	if !ns.Valid {
		return time.Time{}
	}
	return time.Unix(0, ns.Int64)
}

func nanoseconds(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixNano(), Valid: true}
}

// Commit implements store.Backend.
func (b *backend) Commit(changes []store.Change) (err error) {
	tx, err := b.db.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.Rollback()
		}
	}()
	cleared, final := store.Final(changes)
	if cleared {
		if _, err := tx.Stmt(b.clear).Exec(); err != nil {
			return err
		}
	}
	erase := tx.Stmt(b.erase)
	var puts []*store.Entry // in the order of keys: neighbours are on the same pages
	for _, c := range final {
		if c.Kind == store.Put {
			puts = append(puts, c.Entry)
		} else if _, err = erase.Exec([]byte(c.Key)); err != nil {
			return err
		}
	}
	if err := b.putAll(tx, puts); err != nil {
		return err
	}
	seq := b.seq
	if len(changes) > 0 {
		seq = changes[len(changes)-1].Seq
	}
	if _, err := tx.Stmt(b.note).Exec(strconv.FormatUint(seq, 10)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	b.seq = seq
	return nil
}

// putAll writes entries with few statements.
func (b *backend) putAll(tx *sql.Tx, entries []*store.Entry) error {
	args := make([]any, 0, 6*rows)
	one, many := tx.Stmt(b.put), tx.Stmt(b.putRows)
	for len(entries) > 0 {
		n, stmt := 1, one
		if len(entries) >= rows {
			n, stmt = rows, many
		}
		args = args[:0]
		for _, e := range entries[:n] {
			args = append(args, []byte(e.Key), []byte(e.Value.Raw()), nanoseconds(e.Expires),
				int64(e.Seq), e.Modified.UnixNano(), e.Who)
		}
		if _, err := stmt.Exec(args...); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// Sync implements store.Backend: a checkpoint syncs the WAL.
func (b *backend) Sync() error {
	_, err := b.db.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
	return err
}

// Close implements store.Backend. The last connection brings the WAL into the file.
func (b *backend) Close() (err error) {
	for _, db := range []*sql.DB{b.db, b.lock} {
		if db != nil {
			if e := db.Close(); err == nil {
				err = e
			}
		}
	}
	return err
}
