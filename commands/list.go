package commands

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of one page of a listing.
const (
	DefaultPageSize = 100
	MaxPageSize     = 1000
)

// Filter chooses commands. Every field narrows; the zero value is all.
type Filter struct {
	Device string
	Name   string
	Group  string
	States []State
	Match  func(device string) bool // nil: all
}

func (f *Filter) matches(c *Command) bool {
	return (f.Device == "" || f.Device == c.Device) && (f.Name == "" || f.Name == c.Spec.Name) &&
		(f.Group == "" || f.Group == c.Group) &&
		(len(f.States) == 0 || slices.Contains(f.States, c.State)) &&
		(f.Match == nil || f.Match(c.Device))
}

// pendingOnly reports whether no command that has ended can match.
func (f *Filter) pendingOnly() bool {
	return len(f.States) > 0 && !slices.ContainsFunc(f.States, State.Ended)
}

// Page asks for a part of a listing.
type Page struct {
	Size  int    // 1 to MaxPageSize; 0: DefaultPageSize
	Token string // of the page before; "": the first
}

func (p *Page) size() (int, error) {
	switch {
	case p.Size == 0:
		return DefaultPageSize, nil
	case p.Size < 0 || p.Size > MaxPageSize:
		return 0, fmt.Errorf("%w: page size %d is not within 1 and %d", ErrInvalid, p.Size, MaxPageSize)
	}
	return p.Size, nil
}

// maxBarren bounds the records that a page looks through without finding one.
const maxBarren = 20_000

// clockSlack is how far the clocks of hubs and of their NATS servers may be
// apart without disturbing the order of a listing.
const clockSlack = 2 * time.Second

// List returns the commands that match, newest first, and the token of the
// next page; "" after the last. A page may hold fewer than asked for, even
// none, and still have a next one. Errors wrap ErrInvalid or ErrBadPageToken.
//
// The store knows the order of the last changes, not of acceptance. A command
// is not accepted after it was last changed; so a walk back through the
// changes has seen every command that was accepted after the time it has come
// to, and those can be given out in order. What had been accepted before List
// was called is listed, also while it changes.
func (d *Dispatcher) List(ctx context.Context, f Filter, p Page) ([]Command, string, error) {
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	from, err := parseCursor(p.Token)
	if err != nil {
		return nil, "", err
	}
	if err := d.wait(ctx); err != nil {
		return nil, "", err
	}
	if f.pendingOnly() {
		out, next := d.listPending(&f, from, size)
		return out, next, nil
	}
	return d.listStored(ctx, &f, from, size)
}

func (d *Dispatcher) listPending(f *Filter, from cursor, size int) ([]Command, string) {
	var found []*Command
	d.mu.Lock()
	for _, e := range d.entries {
		if f.matches(e.view) && from.before(e.view) {
			found = append(found, e.view)
		}
	}
	d.mu.Unlock()
	slices.SortFunc(found, newestFirst)
	next := ""
	if len(found) > size {
		found = found[:size]
		next = cursor{last: found[size-1].Created, id: found[size-1].ID}.String()
	}
	out := make([]Command, len(found))
	for i, c := range found {
		out[i] = *c
	}
	return out, next
}

// listStored walks back from the revision that the listing begins at, and then
// forward from there to the newest one: a command that changes meanwhile moves
// up, out of the walk's way, and is met behind it.
func (d *Dispatcher) listStored(ctx context.Context, f *Filter, from cursor, size int) ([]Command, string, error) {
	top, high := from.top, from.high
	if from.id == "" && from.top == 0 {
		last, err := d.cfg.Store.LastRevision(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("list commands: %w", err)
		}
		top, high = last, last
	}
	l := listing{d: d, filter: f, from: from, seen: map[string]bool{}}
	at, barren, stopped := uint64(0), 0, false
	var reached time.Time // of what was accepted later, nothing is below at
	err := d.cfg.Store.Scan(ctx, Scan{Device: f.Device, High: high}, func(c *Command, changed time.Time) bool {
		at, reached = c.Revision, changed.Add(clockSlack)
		barren++
		if l.meet(c) {
			barren = 0
		}
		stopped = l.after(reached, size) || len(l.order) == 0 && barren >= maxBarren
		return !stopped
	})
	if err == nil {
		err = d.cfg.Store.Since(ctx, f.Device, top, func(c *Command) { l.meet(c) })
	}
	if err != nil {
		return nil, "", fmt.Errorf("list commands: %w", err)
	}
	if !stopped {
		reached = time.Time{}
	}
	slices.SortFunc(l.found, newestFirst)
	var out []Command
	for _, c := range l.found {
		if len(out) == size || !c.Created.After(reached) {
			break
		}
		out = append(out, *c)
	}
	rest := l.found[len(out):]
	if !stopped && len(rest) == 0 {
		return out, "", nil
	}
	next := cursor{last: from.last, id: from.id, top: top, high: at}
	if len(out) > 0 {
		next.last, next.id = out[len(out)-1].Created, out[len(out)-1].ID
	}
	for _, c := range rest {
		if c.Revision <= top { // else it is met behind the next walk
			next.high = max(next.high, c.Revision)
		}
	}
	return out, next.String(), nil
}

// listing is one page in the making.
type listing struct {
	d      *Dispatcher
	filter *Filter
	from   cursor

	seen  map[string]bool
	found []*Command // with the Revision that they were met at
	order newest     // heap of found; what was accepted after the time reached is taken out
	sure  int        // of these
}

// meet takes a command in and reports whether it may be listed.
func (l *listing) meet(c *Command) bool {
	if l.seen[c.ID] {
		return false
	}
	l.seen[c.ID] = true
	if e := l.d.entry(c.ID); e != nil {
		if v := l.d.look(e); v != nil {
			v := *v
			v.Revision = c.Revision
			c = &v
		}
	}
	if !l.filter.matches(c) || !l.from.before(c) {
		return false
	}
	l.found = append(l.found, c)
	heap.Push(&l.order, c)
	return true
}

// after reports whether size commands were found that were accepted after the
// time that the walk has reached.
func (l *listing) after(reached time.Time, size int) bool {
	for len(l.order) > 0 && l.order[0].Created.After(reached) {
		heap.Pop(&l.order)
		l.sure++
	}
	return l.sure >= size
}

// newestFirst orders by acceptance, the newest first, then by id.
func newestFirst(a, b *Command) int {
	return cmp.Or(b.Created.Compare(a.Created), strings.Compare(b.ID, a.ID))
}

// newest is a heap of commands.
type newest []*Command

func (h newest) Len() int           { return len(h) }
func (h newest) Less(i, j int) bool { return newestFirst(h[i], h[j]) < 0 }
func (h newest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *newest) Push(x any) { *h = append(*h, x.(*Command)) }

// Pop is for container/heap.
func (h *newest) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// cursor is where a listing goes on.
type cursor struct {
	last time.Time // acceptance of the last one given out
	id   string    // and its id; "": none was
	top  uint64    // revision that the first page began at
	high uint64    // revision to go on from
}

// before reports whether c comes after the cursor in the listing.
func (k cursor) before(c *Command) bool {
	return k.id == "" || newestFirst(&Command{Created: k.last, ID: k.id}, c) < 0
}

func (k cursor) String() string {
	nanos := int64(0)
	if k.id != "" {
		nanos = k.last.UnixNano()
	}
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "1 %d %d %d %s", nanos, k.top, k.high, k.id))
}

func parseCursor(token string) (cursor, error) {
	if token == "" {
		return cursor{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) > 200 {
		return cursor{}, ErrBadPageToken
	}
	var k cursor
	var nanos int64
	n, err := fmt.Sscanf(string(b), "1 %d %d %d %s", &nanos, &k.top, &k.high, &k.id)
	if n < 3 || err != nil && k.id != "" {
		return cursor{}, ErrBadPageToken
	}
	if k.id != "" {
		k.last = time.Unix(0, nanos).UTC()
	}
	return k, nil
}
