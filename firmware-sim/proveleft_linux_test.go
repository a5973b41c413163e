package firmwaresim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProofDisksAreFound(t *testing.T) {
	got := proofDisks(`22 1 0:21 / /proc rw - proc proc rw
40 1 7:1 / /tmp/tetherline-proof-1/hub-disk rw,relatime shared:5 - ext4 /dev/loop1 rw
41 1 7:2 / /srv/a\040b/hub-disk rw,relatime - ext4 /dev/loop2 rw
42 1 8:1 / /mnt/hub-disk rw,relatime - ext4 /dev/sda1 rw
43 1 7:3 / /mnt/other rw,relatime - ext4 /dev/loop3 rw
broken
`)
	if want := []string{"/tmp/tetherline-proof-1/hub-disk", "/srv/a b/hub-disk"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A disk that a killed proof has left is unmounted by the next one; that of a
// living proof is not, and neither is that of somebody who is no proof.
func TestLeftDisksAreFreed(t *testing.T) {
	dir := t.TempDir()
	if isLeft(dir) {
		t.Error("a folder of no proof is taken for one that was left")
	}
	release, err := holdFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if isLeft(dir) {
		t.Error("the folder of a living proof is taken for one that was left")
	}
	disk, err := newSmallDisk(dir, 8<<20)
	mounted := func() bool {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		return err == nil && slices.Contains(proofDisks(string(mounts)), filepath.Join(dir, smallDiskFolder))
	}
	if err == nil {
		t.Cleanup(func() {
			if mounted() {
				_ = disk.close()
			}
		})
	}
	had := mounted() // here one may not mount anything
	var said strings.Builder
	say := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); strings.Contains(line, dir) {
			said.WriteString(line)
		}
	}
	freeLeftDisks(say)
	if mounted() != had || said.Len() > 0 {
		t.Errorf("the disk of a living proof: mounted %v, %q", mounted(), said.String())
	}
	release()
	if !isLeft(dir) {
		t.Error("the folder of a dead proof is not taken for one that was left")
	}
	freeLeftDisks(say)
	if mounted() || had != strings.Contains(said.String(), "unmounted") {
		t.Errorf("the disk of a dead proof: mounted %v, %q", mounted(), said.String())
	}
}

// The folder of a proof that was killed goes with the next one; that of a
// living one stays, and so does one that was kept for what it has found.
func TestLeftProofsAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	folder := func(files ...string) string {
		dir, err := os.MkdirTemp("", temporaryFolder("proof"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	killed, kept, living := folder(heldFile, unfinishedFile), folder(heldFile), folder(unfinishedFile)
	release, err := holdFolder(living)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	removeLeftProofs(t.Logf)
	for dir, want := range map[string]bool{killed: false, kept: true, living: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v; it is to stay: %v", dir, err, want)
		}
	}
}
