package firmwaresim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// heldFile in the folder of a proof, or of a load, is locked for as long as its
// process lives, however that ends.
const heldFile = "held"

// holdFolder marks the folder as that of a living proof, until release. The
// file has its name only when it is locked: others, who look for folders whose
// process is gone, take one that is not for such a folder.
func holdFolder(dir string) (release func(), err error) {
	file, err := os.CreateTemp(dir, heldFile+"-*")
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, heldFile))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}

// freeLeftDisks unmounts the disks of proofs whose process is gone: who is
// killed unmounts nothing. It says what it did, and what it could not do.
func freeLeftDisks(say func(format string, args ...any)) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return // then nobody can tell
	}
	for _, folder := range proofDisks(string(mounts)) {
		if !isLeft(filepath.Dir(folder)) {
			continue
		}
		if err := (&smallDisk{folder: folder}).close(); err != nil {
			say("a proof that was killed has left a disk behind (%v): umount %s", err, folder)
			continue
		}
		say("unmounted %s of a proof that was killed", folder)
	}
}

// removeLeftProofs removes the temporary folders of proofs that were killed
// before they had a verdict. One that has found something stays, and so does
// one that still has a disk.
func removeLeftProofs(say func(format string, args ...any)) {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryFolder("proof")+"*"))
	mounts, merr := os.ReadFile("/proc/self/mountinfo")
	if err != nil || merr != nil {
		return
	}
	disks := proofDisks(string(mounts))
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, unfinishedFile)); err != nil || slices.Contains(disks, filepath.Join(folder, smallDiskFolder)) || !isLeft(folder) {
			continue
		}
		if err := os.RemoveAll(folder); err != nil {
			say("a proof that was killed has left %s: %v", folder, err)
			continue
		}
		say("removed %s of a proof that was killed", folder)
	}
}

// removeLeftLoads removes the temporary folders of loads whose process is
// gone: who is killed removes nothing.
func removeLeftLoads() {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryFolder("load")+"*"))
	if err != nil {
		return
	}
	for _, folder := range folders {
		if isLeft(folder) {
			_ = os.RemoveAll(folder)
		}
	}
}

// isLeft holds for the folder of a proof whose process is gone. One without
// the file may be anybody's.
func isLeft(dir string) bool {
	file, err := os.OpenFile(filepath.Join(dir, heldFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// proofDisks are the folders of a mountinfo (proc_pid_mountinfo(5)) that a
// proof may have mounted.
func proofDisks(mountinfo string) (folders []string) {
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		mount, source, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if !ok || len(fields) < 5 || !strings.HasPrefix(source, "ext4 /dev/loop") {
			continue
		}
		if folder := plain.Replace(fields[4]); filepath.Base(folder) == smallDiskFolder {
			folders = append(folders, folder)
		}
	}
	return folders
}
