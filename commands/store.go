package commands

import (
	"context"
	"time"
)

// Store keeps commands and groups durably. A method that returns nil has its
// change on disk, on a majority of the replicas. All methods may run at once,
// and on several nodes at once. An error that is none of the named ones
// leaves open whether the change was made.
type Store interface {
	// Create stores a new command and sets its Revision. ErrExists when the
	// id is known, live or in the history, for whichever device.
	Create(ctx context.Context, c *Command) error
	// Update replaces the record that c was made from and sets c.Revision.
	// ErrStale when it has changed since.
	Update(ctx context.Context, c *Command) error
	// Command by its id, live or in the history. ErrNotFound.
	Command(ctx context.Context, id string) (*Command, error)
	// Follow calls fn for every command that has not ended, then, with a
	// Change that has nothing but the Revision that it has come to, once for
	// having done so, and then for the changes of any
	// command by any node, in the order they were made; one that was followed
	// by another of the same command may be left out. The cost of the first
	// part does not depend on the history. fn must not block for long.
	// Follow returns ctx.Err() when ctx ends, or what went wrong.
	Follow(ctx context.Context, fn func(Change)) error
	// Scan calls fn with commands and the times of their last changes, last
	// changed first, from revision s.High down to above s.Low, until fn
	// returns false.
	Scan(ctx context.Context, s Scan, fn func(c *Command, changed time.Time) bool) error
	// Since calls fn with commands as they were changed after the revision
	// low, in the order of the changes, until there is none: a command that is
	// changed meanwhile comes, as it was before or after. device "": all.
	Since(ctx context.Context, device string, low uint64, fn func(c *Command)) error
	// LastRevision is the highest revision in the store.
	LastRevision(ctx context.Context) (uint64, error)

	// CreateGroup stores a group that has not begun, with its members.
	// ErrExists when the id is known.
	CreateGroup(ctx context.Context, g *Group, members []string) error
	// UpdateGroup replaces the record that g was made from and sets its
	// Revision. ErrStale when it has changed since.
	UpdateGroup(ctx context.Context, g *Group) error
	// Group by its id. ErrNotFound.
	Group(ctx context.Context, id string) (*Group, error)
	// Members of a group that has not ended, as they were created.
	Members(ctx context.Context, id string) ([]string, error)
	// Groups are all groups that are kept, in no order.
	Groups(ctx context.Context) ([]*Group, error)
}

// Change is a record as Follow hands it out.
type Change struct {
	ID       string
	Device   string
	Revision uint64
	// Load decodes the record; its error says that the record cannot be read.
	Load func() (*Command, error)
}

// Scan says what to look through.
type Scan struct {
	Device    string // "": all
	High, Low uint64 // revisions: High is included, Low is not
}
