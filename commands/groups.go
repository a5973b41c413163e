package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SendGroup accepts a command for each device that matches at this moment,
// durably, and issues them one after the other. existed: the key was used for
// the same request before.
//
// Errors wrap ErrInvalid (no device matches, too), ErrTooMany or ErrConflict,
// and nothing was accepted. After any other error it may have been: ask again
// with the same key.
func (d *Dispatcher) SendGroup(ctx context.Context, r GroupRequest) (g Group, existed bool, err error) {
	if err := r.check(); err != nil {
		return Group{}, false, err
	}
	if err := d.wait(ctx); err != nil {
		return Group{}, false, err
	}
	id := r.Key
	if id == "" {
		if id, err = newID(); err != nil {
			return Group{}, false, err
		}
	} else {
		if err := CheckKey(id); err != nil {
			return Group{}, false, err
		}
		release, err := d.claimKey(id, true)
		if err != nil {
			return Group{}, false, err
		}
		defer release()
		if known, err := d.existingGroup(ctx, id, &r); err != nil || known != nil {
			return derefGroup(known), known != nil, err
		}
		if err := d.noCommandHas(ctx, id); err != nil {
			return Group{}, false, err
		}
	}
	members, err := d.members(ctx, &r)
	if err != nil {
		return Group{}, false, err
	}
	if r.Rate > 0 && float64(len(members))/r.Rate > MaxGroupIssue.Seconds() {
		return Group{}, false, fmt.Errorf("%w: %d commands at %g a second take longer than %s", ErrInvalid, len(members), r.Rate, MaxGroupIssue)
	}
	now := d.here(0).time
	n := &Group{
		ID: id, Selector: r.Selector, Spec: r.Spec, Digest: r.digest(), Operator: r.Operator, OperatorID: r.OperatorID,
		Rate: r.Rate, StopAt: r.StopAfterFailureShare, Created: now, Node: d.cfg.Node, Total: len(members),
		State: GroupRunning, Reason: "accepted", ByState: map[State]int{},
		Reserved: min(groupBurst, len(members)), Runner: d.cfg.Node, Lease: now.Add(groupLease),
	}
	wctx, cancel := storeContext(ctx)
	defer cancel()
	known, stored, err := createOrFind(wctx, id, func() error { return d.cfg.Store.CreateGroup(wctx, n, members) },
		func() (*Group, error) { return d.existingGroup(ctx, id, &r) })
	switch {
	case stored != nil:
		return Group{}, false, fmt.Errorf("record the group %s: %w", id, stored)
	case err != nil || known != nil:
		return derefGroup(known), known != nil, err
	}
	select {
	case d.newGroups <- n:
	default: // found by the next look through the store
	}
	return *n.clone(), false, nil
}

func (r *GroupRequest) digest() string {
	return digest("group "+r.Selector, &r.Spec, r.Rate, r.StopAfterFailureShare, r.MaxDevices)
}

func (d *Dispatcher) existingGroup(ctx context.Context, id string, r *GroupRequest) (*Group, error) {
	g, err := d.GetGroup(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case g.Digest != r.digest():
		return nil, fmt.Errorf("key %s: %w", id, ErrConflict)
	}
	return &g, nil
}

// members are the devices that a group request reaches.
func (d *Dispatcher) members(ctx context.Context, r *GroupRequest) ([]string, error) {
	all, err := d.cfg.Devices.SelectDevices(ctx, r.Selector)
	if err != nil {
		return nil, err
	}
	members := make([]string, 0, len(all))
	for _, device := range all {
		if r.Allow == nil || r.Allow(device) {
			members = append(members, device)
		}
	}
	most := r.MaxDevices
	if most == 0 || most > MaxGroupDevices {
		most = MaxGroupDevices
	}
	switch {
	case len(members) == 0:
		return nil, fmt.Errorf("%w: no device matches %q", ErrInvalid, r.Selector)
	case len(members) > most:
		return nil, fmt.Errorf("%q matches %d devices, %d are allowed: %w", r.Selector, len(members), most, ErrTooMany)
	}
	return members, nil
}

// GetGroup returns a group with its counts: exact on the node that runs it,
// up to a second old on others. Errors wrap ErrNotFound.
func (d *Dispatcher) GetGroup(ctx context.Context, id string) (Group, error) {
	if CheckKey(id) != nil {
		return Group{}, fmt.Errorf("group %.80q: %w", id, ErrNotFound)
	}
	if err := d.wait(ctx); err != nil {
		return Group{}, err
	}
	d.mu.Lock()
	run := d.groups[id]
	d.mu.Unlock()
	if run != nil {
		if g := run.snapshot(); g != nil {
			return *g, nil
		}
	}
	g, err := d.cfg.Store.Group(ctx, id)
	if err != nil {
		return Group{}, fmt.Errorf("group %s: %w", id, err)
	}
	return *g, nil
}

// ListGroups returns the groups that match, newest first, and the token of
// the next page, which tells of no other group. match nil: all. Errors wrap
// ErrInvalid or ErrBadPageToken.
func (d *Dispatcher) ListGroups(ctx context.Context, match func(*Group) bool, p Page) ([]Group, string, error) {
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
	all, err := d.cfg.Store.Groups(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("list groups: %w", err)
	}
	slices.SortFunc(all, func(a, b *Group) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(b.ID, a.ID)
	})
	var out []Group
	for _, g := range all {
		if !from.before(&Command{Created: g.Created, ID: g.ID}) || match != nil && !match(g) {
			continue
		}
		if len(out) == size {
			last := out[size-1]
			return out, cursor{last: last.Created, id: last.ID}.String(), nil
		}
		d.mu.Lock()
		run := d.groups[g.ID]
		d.mu.Unlock()
		if run != nil {
			if now := run.snapshot(); now != nil {
				g = now
			}
		}
		out = append(out, *g)
	}
	return out, "", nil
}

// CancelGroup issues no more commands of the group, and cancels those that
// have not ended, as Cancel does. Errors wrap ErrNotFound or ErrEnded.
func (d *Dispatcher) CancelGroup(ctx context.Context, id, operator string) (Group, error) {
	if CheckKey(id) != nil {
		return Group{}, fmt.Errorf("group %.80q: %w", id, ErrNotFound)
	}
	if err := d.wait(ctx); err != nil {
		return Group{}, err
	}
	wctx, cancel := storeContext(ctx)
	defer cancel()
	for {
		g, err := d.cfg.Store.Group(wctx, id)
		if err != nil {
			return Group{}, fmt.Errorf("group %s: %w", id, err)
		}
		if !g.Ended.IsZero() {
			return *g, fmt.Errorf("group %s is %s: %w", id, g.State, ErrEnded)
		}
		if g.State != GroupCanceled {
			g = g.clone()
			g.State, g.Reason = GroupCanceled, "canceled"
			if operator != "" {
				g.Reason += " by " + operator
			}
			err = d.cfg.Store.UpdateGroup(wctx, g)
			if errors.Is(err, ErrStale) && wctx.Err() == nil {
				continue
			}
			if err != nil {
				return Group{}, fmt.Errorf("cancel group %s: %w", id, err)
			}
		}
		d.mu.Lock()
		run := d.groups[id]
		d.mu.Unlock()
		if run != nil {
			run.adopt(g)
		}
		return d.GetGroup(ctx, id)
	}
}

func derefGroup(g *Group) Group {
	if g == nil {
		return Group{}
	}
	return *g
}
