//go:build linux

package powertest

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an inode as the kernel asks for it.
type node struct {
	fs.Inode
	disk *Disk
	of   *inode
}

// handle is an open file.
type handle struct{ sync bool }

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeLinker    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// show returns the kernel's view of an inode. n.disk.mu is held.
func (n *node) show(ctx context.Context, of *inode, out *fuse.EntryOut) *fs.Inode {
	of.attributes(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, of: of}, fs.StableAttr{Mode: of.mode & syscall.S_IFMT, Ino: of.ino})
}

func (i *inode) attributes(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink = i.ino, i.mode, i.links
	out.Size = uint64(len(i.data))
	out.Blocks = (out.Size + 511) / 512
	out.SetTimes(nil, &i.mtime, &i.mtime)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	of := n.of.names[name]
	if of == nil {
		return nil, syscall.ENOENT
	}
	return n.show(ctx, of, out), 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.of.attributes(&out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		n.of.mode = n.of.mode&syscall.S_IFMT | mode&0o7777
	}
	if at, ok := in.GetMTime(); ok {
		n.of.mtime = at
	}
	if size, ok := in.GetSize(); ok {
		n.disk.truncate(n.of, int64(size))
	}
	n.of.attributes(&out.Attr)
	return 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	var entries []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.of.names)) {
		of := n.of.names[name]
		entries = append(entries, fuse.DirEntry{Name: name, Ino: of.ino, Mode: of.mode})
	}
	return fs.NewListDirStream(entries), 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.of.names[name] != nil {
		return nil, syscall.EEXIST
	}
	of := n.disk.newInode(syscall.S_IFDIR | mode&0o7777)
	n.disk.change(n.of, rename{name: of})
	return n.show(ctx, of, out), 0
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	of := n.of.names[name]
	switch {
	case of != nil && flags&syscall.O_EXCL != 0:
		return nil, nil, 0, syscall.EEXIST
	case of == nil:
		of = n.disk.newInode(syscall.S_IFREG | mode&0o7777)
		n.disk.change(n.of, rename{name: of})
	case flags&syscall.O_TRUNC != 0:
		n.disk.truncate(of, 0)
	}
	return n.show(ctx, of, out), newHandle(flags), 0, 0
}

func newHandle(flags uint32) *handle {
	return &handle{sync: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.of.names[name] != nil {
		return nil, syscall.EEXIST
	}
	of := target.(*node).of
	of.links++
	n.disk.change(n.of, rename{name: of})
	return n.show(ctx, of, out), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	of := n.of.names[name]
	if of == nil {
		return syscall.ENOENT
	}
	of.links--
	n.disk.change(n.of, rename{name: nil})
	return 0
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	of := n.of.names[name]
	switch {
	case of == nil:
		return syscall.ENOENT
	case of.names == nil:
		return syscall.ENOTDIR
	case len(of.names) > 0:
		return syscall.ENOTEMPTY
	}
	of.links--
	n.disk.change(n.of, rename{name: nil})
	return 0
}

// Rename within a folder is one change. Between two folders it is one of each,
// so that a loss of power may leave the file in both or in neither.
func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	to := parent.(*node).of
	of, over := n.of.names[name], to.names[newName]
	switch {
	case of == nil:
		return syscall.ENOENT
	case flags&fs.RENAME_EXCHANGE != 0:
		return syscall.EINVAL
	case over != nil && flags&1 != 0: // RENAME_NOREPLACE
		return syscall.EEXIST
	case over == of:
		return 0
	case over != nil && len(over.names) > 0:
		return syscall.ENOTEMPTY
	case over != nil:
		over.links--
	}
	if to == n.of {
		n.disk.change(to, rename{name: nil, newName: of})
		return 0
	}
	n.disk.change(to, rename{newName: of})
	n.disk.change(n.of, rename{name: nil})
	return 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		n.disk.mu.Lock()
		defer n.disk.mu.Unlock()
		n.disk.truncate(n.of, 0)
	}
	return newHandle(flags), 0, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	at = min(at, int64(len(n.of.data)))
	return fuse.ReadResultData(dest[:copy(dest, n.of.data[at:])]), 0
}

func (n *node) Write(_ context.Context, f fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.disk.write(n.of, at, data)
	if h, ok := f.(*handle); ok && h.sync {
		n.disk.sync(n.of)
	}
	return uint32(len(data)), 0
}

// Fsync of a file or a folder.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.disk.sync(n.of)
	return 0
}

// Statfs: a disk with more room than any test needs.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 64 << 30 / 4096
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = blocks, blocks, blocks
	out.Files, out.Ffree = 1<<20, 1<<20
	return 0
}

// timeout is how long the kernel may rely on what it was told: nothing changes
// but through it.
var timeout = time.Hour
