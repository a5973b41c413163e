//go:build linux

package powertest

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount is the connection with the kernel; nil server: none.
type mount struct{ server *fuse.Server }

// New mounts an empty disk until the test ends. It fails the test where that
// cannot be done: what it would have shown is then not known.
func New(t testing.TB, o Options) *Disk {
	t.Helper()
	d := newDisk(o)
	d.dir = t.TempDir()
	t.Cleanup(func() { d.unmount(t) })
	d.connect(t)
	return d
}

// Dir is where it is mounted.
func (d *Disk) Dir() string { return d.dir }

// Cut is the loss of power: what was not synced is gone, but for what chance
// leaves of it. Every program that had a file open must have been killed.
func (d *Disk) Cut(t testing.TB) Loss {
	t.Helper()
	d.unmount(t)
	d.mu.Lock()
	d.lost = d.lose()
	lost := d.lost
	d.mu.Unlock()
	d.connect(t)
	return lost
}

func (d *Disk) connect(t testing.TB) {
	t.Helper()
	const needs = "tests of the loss of power mount a FUSE file system: they need Linux, /dev/fuse, and root (in a container: --device /dev/fuse --cap-add SYS_ADMIN); see CONTRIBUTING.md"
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("%v: %s", err, needs)
	}
	if os.Geteuid() != 0 {
		t.Fatalf("user %d may not mount: %s", os.Geteuid(), needs)
	}
	server, err := fs.Mount(d.dir, &node{disk: d, of: d.root}, &fs.Options{
		MountOptions:    fuse.MountOptions{DirectMountStrict: true, FsName: "powertest", Name: "powertest", DisableXAttrs: true, MaxWrite: 1 << 20},
		AttrTimeout:     &timeout,
		EntryTimeout:    &timeout,
		RootStableAttr:  &fs.StableAttr{Mode: syscall.S_IFDIR, Ino: d.root.ino},
		NullPermissions: true,
	})
	if err != nil {
		t.Fatalf("mount: %v: %s", err, needs)
	}
	d.mount.server = server
	if err := closeOnExec(); err != nil {
		t.Fatal(err)
	}
}

// closeOnExec keeps the connection with the kernel from programs that are
// started: go-fuse does not where it mounts by itself, and a program that holds
// it waits for itself for ever when this process has been killed.
func closeOnExec() error {
	const folder = "/proc/self/fd"
	fds, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(folder, fd.Name())); err == nil && to == "/dev/fuse" {
			n, err := strconv.Atoi(fd.Name())
			if err != nil {
				return err
			}
			syscall.CloseOnExec(n)
		}
	}
	return nil
}

// unmount waits for programs that are being killed.
func (d *Disk) unmount(t testing.TB) {
	t.Helper()
	if d.mount.server == nil {
		return
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := d.mount.server.Unmount()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("unmount %s: %v: somebody still has a file open there", d.dir, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.mount.server.Wait()
	d.mount.server = nil
}
