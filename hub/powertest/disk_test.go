//go:build linux

package powertest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/powertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a Disk with a folder "d" on it that survives.
type disk struct {
	*powertest.Disk
	t *testing.T
}

func newDisk(t *testing.T, o powertest.Options) disk {
	d := disk{powertest.New(t, o), t}
	d.must(os.Mkdir(d.path("d"), 0o700))
	d.syncFolder("")
	return d
}

func (d disk) path(name string) string { return filepath.Join(d.Dir(), name) }

func (d disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) write(name, text string, flags int, sync bool) {
	d.t.Helper()
	f, err := os.OpenFile(d.path(name), os.O_CREATE|os.O_RDWR|flags, 0o600)
	d.must(err)
	_, err = f.WriteString(text)
	d.must(err)
	if sync {
		d.must(f.Sync())
	}
	d.must(f.Close())
}

func (d disk) syncFolder(name string) {
	d.t.Helper()
	f, err := os.Open(d.path(name))
	d.must(err)
	d.must(f.Sync())
	d.must(f.Close())
}

const gone = "(gone)"

func (d disk) want(name, text string) {
	d.t.Helper()
	got, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		got, err = []byte(gone), nil
	}
	d.must(err)
	if string(got) != text {
		d.t.Errorf("%s is %q; want %q", name, got, text)
	}
}

func TestOnlyWhatWasSyncedSurvives(t *testing.T) {
	d := newDisk(t, powertest.Options{Forgetful: true})
	d.write("d/synced", "one", 0, true)
	d.write("d/unsynced", "two", 0, false)
	d.write("d/osync", "three", os.O_SYNC, false)
	d.write("d/later", "four", 0, true)
	d.syncFolder("d")
	d.write("d/later", "FOUR and more", 0, false)
	d.write("d/nameless", "five", 0, true)
	d.must(os.Rename(d.path("d/osync"), d.path("d/renamed")))
	d.must(os.Remove(d.path("d/synced")))
	d.want("d/later", "FOUR and more")
	d.want("d/renamed", "three")
	d.want("d/synced", gone)

	d.Cut(t)
	d.want("d/synced", "one")
	d.want("d/unsynced", "")
	d.want("d/osync", "three")
	d.want("d/later", "four")
	d.want("d/nameless", gone)
	d.want("d/renamed", gone)

	d.must(os.Rename(d.path("d/osync"), d.path("d/later")))
	d.syncFolder("d")
	d.must(os.Truncate(d.path("d/later"), 1))
	d.want("d/later", "t")
	d.Cut(t)
	d.want("d/osync", gone)
	d.want("d/later", "three")
}

func TestFileKeepsName(t *testing.T) {
	d := newDisk(t, powertest.Options{Forgetful: true, FileKeepsName: true})
	d.write("d/first", "one", 0, false)
	d.write("d/second", "two", 0, true)
	d.write("d/third", "three", 0, false)
	d.Cut(t)
	d.want("d/first", "")
	d.want("d/second", "two")
	d.want("d/third", gone)
}

func TestALyingDiskLoses(t *testing.T) {
	d := newDisk(t, powertest.Options{Forgetful: true})
	d.write("d/a", "true", 0, true)
	d.syncFolder("d")
	d.Lie(true)
	d.write("d/a", "lies", 0, true)
	d.write("d/b", "lies", os.O_SYNC, true)
	d.syncFolder("d")
	d.Cut(t)
	d.want("d/a", "true")
	d.want("d/b", gone)
}

// Chance keeps whole sectors of a write, and the first changes of a folder.
func TestChanceTearsWritesAndKeepsTheOrderOfNames(t *testing.T) {
	torn, kept := 0, map[int]bool{}
	for seed := range uint64(12) {
		d := newDisk(t, powertest.Options{Seed: seed})
		old, now := bytes.Repeat([]byte("o"), 4096), bytes.Repeat([]byte("n"), 4096)
		d.write("d/a", string(old), 0, true)
		d.syncFolder("d")
		d.write("d/a", string(now), 0, false)
		for i := range 4 {
			d.write(fmt.Sprint("d/", i), "", 0, false)
		}
		d.Cut(t)
		got, err := os.ReadFile(d.path("d/a"))
		d.must(err)
		sectors := 0
		for i := 0; i < len(got); i += 512 {
			switch s := got[i : i+512]; {
			case bytes.Equal(s, now[:512]):
				sectors++
			case !bytes.Equal(s, old[:512]):
				t.Fatalf("sector %d is neither old nor new", i/512)
			}
		}
		if sectors > 0 && sectors < 8 {
			torn++
		}
		files, err := os.ReadDir(d.path("d"))
		d.must(err)
		for i, f := range files[:len(files)-1] {
			if f.Name() != fmt.Sprint(i) {
				t.Errorf("file %s survived, and not those made before it", f.Name())
			}
		}
		kept[len(files)-1] = true
	}
	if torn == 0 || len(kept) < 2 {
		t.Errorf("%d of 12 writes torn, folders with %v of 4 changes: chance does nothing", torn, kept)
	}
}
