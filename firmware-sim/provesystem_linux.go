package firmwaresim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent ends a program with this process, even one that is killed, and
// not before: a Ctrl-C at a terminal is for this process alone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// smallDisk is a file system of its own that can be filled up.
type smallDisk struct {
	image, folder string
}

// smallDiskFolder is its name in the folder of the proof.
const smallDiskFolder = "hub-disk"

// newSmallDisk mounts an ext4 of that many bytes, in a sparse file. Only root
// can.
func newSmallDisk(dir string, size int64) (*smallDisk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can mount a disk of its own")
	}
	d := &smallDisk{image: filepath.Join(dir, smallDiskImage), folder: filepath.Join(dir, smallDiskFolder)}
	file, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	err = errors.Join(file.Truncate(size), file.Close(), os.MkdirAll(d.folder, 0o700))
	if err != nil {
		return nil, err
	}
	if err := tool("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", d.image); err != nil {
		return nil, err
	}
	return d, tool("mount", "-o", "loop", d.image, d.folder)
}

func tool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (d *smallDisk) ballast() string { return filepath.Join(d.folder, "ballast") }

// fill takes all the room there is.
func (d *smallDisk) fill() error {
	file, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer func() { _ = file.Close() }()
	var size int64
	for step := int64(1 << 30); step >= 4<<10; {
		if err := unix.Fallocate(int(file.Fd()), 0, size, step); err != nil {
			step /= 2
			continue
		}
		size += step
	}
	return nil
}

func (d *smallDisk) free() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}

func (d *smallDisk) close() error { return tool("umount", d.folder) }

// freeBytes of the disk that dir is on.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}
