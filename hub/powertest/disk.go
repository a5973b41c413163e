//go:build linux

package powertest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// Options of a Disk.
type Options struct {
	// Seed of what survives beyond what was synced.
	Seed uint64
	// FileKeepsName: the sync of any file keeps all changes of names so far,
	// as on file systems with one journal for all of them.
	FileKeepsName bool
	// Forgetful: nothing survives beyond what was synced.
	Forgetful bool
}

// Disk is what programs see and what has reached the medium. Its methods may
// run at once, but for Cut, during which nothing may have a file open.
type Disk struct {
	options Options
	dir     string
	mount   mount

	mu      sync.Mutex
	random  *rand.Rand
	root    *inode
	lastIno uint64
	lying   bool // syncs are accepted and not done
	syncs   uint64
	lost    Loss
}

// Loss is what the last Cut took and left.
type Loss struct {
	Files      int // files with content that had not been synced
	Bytes      int // written and not synced
	KeptBytes  int // of these: survived all the same
	Names      int // changes of folders that had not been synced
	KeptNames  int // of these: survived all the same
	GoneBlocks int // files with a name ending in ".blk" whose name is gone
}

// inode is a file or a folder, as programs see it, and as it is on the medium.
type inode struct {
	ino   uint64
	mode  uint32 // type and permissions
	links uint32
	mtime time.Time

	data, kept []byte
	changes    []change // of data since it was kept

	names, keptNames map[string]*inode // nil: a file
	renames          []rename          // of names since they were kept
}

// change is a write, or where data is nil a truncation.
type change struct {
	at   int64
	data []byte
}

// rename is a change of a folder, whole: the names and what they stand for
// after it; nil: nothing.
type rename map[string]*inode

func newDisk(o Options) *Disk {
	d := &Disk{options: o, random: rand.New(rand.NewPCG(o.Seed, 1)), lastIno: 1}
	d.root = d.newInode(syscall.S_IFDIR | 0o700)
	return d
}

func (d *Disk) newInode(mode uint32) *inode {
	d.lastIno++
	n := &inode{ino: d.lastIno, mode: mode, links: 1, mtime: time.Now()}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.names, n.keptNames = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// Lie has the disk accept syncs without doing them, or be honest again. What
// was synced before stays so.
func (d *Disk) Lie(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying = on
}

// Syncs is how many have been done.
func (d *Disk) Syncs() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// Loss of the last Cut.
func (d *Disk) Loss() Loss {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// write to a file. d.mu is held.
func (d *Disk) write(n *inode, at int64, data []byte) {
	c := change{at, slices.Clone(data)}
	n.data = c.apply(n.data)
	n.changes = append(n.changes, c)
	n.mtime = time.Now()
}

func (d *Disk) truncate(n *inode, size int64) {
	c := change{at: size}
	n.data = c.apply(n.data)
	n.changes = append(n.changes, c)
	n.mtime = time.Now()
}

// apply returns content after the change.
func (c change) apply(content []byte) []byte {
	end := int(c.at) + len(c.data)
	if c.data == nil && end < len(content) {
		return slices.Clone(content[:end])
	}
	if end > len(content) {
		// Past the old end there may be bytes of before a truncation.
		content = append(content, make([]byte, end-len(content))...)
	}
	copy(content[c.at:], c.data)
	return content
}

// change a folder. d.mu is held.
func (d *Disk) change(folder *inode, to rename) {
	for name, n := range to {
		set(folder.names, name, n)
	}
	folder.renames = append(folder.renames, to)
	folder.mtime = time.Now()
}

func set(names map[string]*inode, name string, n *inode) {
	if n == nil {
		delete(names, name)
	} else {
		names[name] = n
	}
}

// sync makes a file's content or a folder's names survive. d.mu is held.
func (d *Disk) sync(n *inode) {
	if d.lying {
		return
	}
	d.syncs++
	n.keep(len(n.changes), len(n.renames))
	if d.options.FileKeepsName {
		d.eachFolder(d.root, map[*inode]bool{}, func(f *inode) { f.keep(0, len(f.renames)) })
	}
}

// keep puts the first changes on the medium.
func (n *inode) keep(changes, renames int) {
	for _, c := range n.changes[:changes] {
		n.kept = c.apply(n.kept)
	}
	n.changes = slices.Delete(n.changes, 0, changes)
	for _, r := range n.renames[:renames] {
		for name, child := range r {
			set(n.keptNames, name, child)
		}
	}
	n.renames = slices.Delete(n.renames, 0, renames)
}

func (d *Disk) eachFolder(n *inode, seen map[*inode]bool, visit func(*inode)) {
	if n.names == nil || seen[n] {
		return
	}
	seen[n] = true
	visit(n)
	for _, child := range n.names {
		d.eachFolder(child, seen, visit)
	}
}

// lose makes what programs see what is on the medium, and returns what that
// has cost.
func (d *Disk) lose() (l Loss) {
	before := blocks(d.root)
	seen := map[*inode]bool{}
	d.loseBelow(d.root, seen, &l)
	for n := range seen {
		n.links = 0
	}
	for n := range seen {
		for _, child := range n.names {
			child.links++
		}
	}
	d.root.links = 1
	after := blocks(d.root)
	for n := range before {
		if !after[n] {
			l.GoneBlocks++
		}
	}
	return l
}

func (d *Disk) loseBelow(n *inode, seen map[*inode]bool, l *Loss) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.names == nil {
		if len(n.changes) > 0 {
			l.Files++
		}
		d.tear(n, l)
		n.changes = nil
		n.data = slices.Clone(n.kept)
		return
	}
	l.Names += len(n.renames)
	if !d.options.Forgetful && len(n.renames) > 0 {
		first := d.random.IntN(len(n.renames) + 1)
		l.KeptNames += first
		n.keep(0, first)
	}
	n.renames = nil
	n.names = maps.Clone(n.keptNames)
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		d.loseBelow(n.names[name], seen, l)
	}
}

// tear lets some of the sectors survive that were written and not synced.
func (d *Disk) tear(n *inode, l *Loss) {
	share := d.random.Float64()
	if d.options.Forgetful {
		share = 0
	}
	for _, c := range n.changes {
		l.Bytes += len(c.data)
		if c.data == nil {
			if d.random.Float64() < share {
				n.kept = c.apply(n.kept)
			}
			continue
		}
		for from := 0; from < len(c.data); {
			to := min(len(c.data), from+sectorBytes-int(c.at+int64(from))%sectorBytes)
			if d.random.Float64() < share {
				n.kept = change{c.at + int64(from), c.data[from:to]}.apply(n.kept)
				l.KeptBytes += to - from
			}
			from = to
		}
	}
}

// blocks is the files that have a name of a JetStream block.
func blocks(root *inode) map[*inode]bool {
	found := map[*inode]bool{}
	var walk func(n *inode)
	walk = func(n *inode) {
		for name, child := range n.names {
			if len(name) > 4 && name[len(name)-4:] == ".blk" {
				found[child] = true
			}
			walk(child)
		}
	}
	walk(root)
	return found
}
