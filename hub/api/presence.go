package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device"
	"github.com/tetherline/tetherline/hub/live"
	"github.com/tetherline/tetherline/hub/registry"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// maxWatchIDs bounds the device ids that one watch names.
const maxWatchIDs = 1000

// filter is which devices a watch is about.
type filter struct {
	selector registry.Selector // the caller's scope included
	ids      map[string]bool   // nil: all that match the selector
	open     bool              // devices that are not in the registry, too
}

// filterOf reads a watch's request. It names no device that the caller may
// not see: that is NOT_FOUND.
func (s *Server) filterOf(ctx context.Context, selector string, ids []string) (filter, error) {
	narrowed, err := selectorIn(ctx, selector)
	if err != nil {
		return filter{}, err
	}
	if len(ids) > maxWatchIDs {
		return filter{}, fmt.Errorf("%w: at most %d device ids, not %d", errBadRequest, maxWatchIDs, len(ids))
	}
	f := filter{selector: narrowed, open: narrowed.Empty()}
	for _, id := range ids {
		if err := device.CheckID(id); err != nil {
			return filter{}, err
		}
		if _, err := s.visible(ctx, id); err != nil {
			return filter{}, err
		}
		if f.ids == nil {
			f.ids = make(map[string]bool, len(ids))
		}
		f.ids[id] = true
	}
	return f, nil
}

// match reports whether the watch is about d.
func (f *filter) match(d *registry.Device) bool {
	return d != nil && (f.ids == nil || f.ids[d.ID]) && f.selector.Match(d.Labels)
}

// presences is the newest presence of each device that a watch has still to
// tell. It holds each device once, however slow the reader is.
type presences struct {
	changed chan struct{} // 1: there is something to tell

	mu    sync.Mutex
	order []string
	byID  map[string]registry.Presence
}

func (p *presences) put(id string, now registry.Presence) {
	p.mu.Lock()
	if _, waiting := p.byID[id]; !waiting {
		p.order = append(p.order, id)
	}
	p.byID[id] = now
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *presences) take() ([]string, map[string]registry.Presence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	order, byID := p.order, p.byID
	p.order, p.byID = nil, make(map[string]registry.Presence)
	return order, byID
}

func (s *deviceService) WatchPresence(ctx context.Context, req *connect.Request[operatorv1.WatchPresenceRequest], stream *connect.ServerStream[operatorv1.WatchPresenceResponse]) error {
	f, err := s.filterOf(ctx, req.Msg.GetSelector(), req.Msg.GetDeviceIds())
	if err != nil {
		return err
	}
	waiting := &presences{changed: make(chan struct{}, 1), byID: make(map[string]registry.Presence)}
	ctx, cancel := context.WithCancelCause(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel(nil)
	started := make(chan struct{})
	following.Go(func() { cancel(s.followPresence(ctx, f, waiting, started)) })
	defer s.deps.Registry.OnChange(func(old, new *registry.Device) {
		if f.match(new) && !f.match(old) { // it is new to this watch
			waiting.put(new.ID, s.deps.Live.Presence(new.ID))
		}
	})()
	select {
	case <-started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.presentState(f, stream); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-waiting.changed:
		}
		order, byID := waiting.take()
		for _, id := range order {
			// Its labels may have changed since.
			if d, ok := s.deps.Registry.Get(id); !ok || !f.match(d) {
				continue
			}
			if err := stream.Send(&operatorv1.WatchPresenceResponse{DeviceId: id, Presence: presenceProto(byID[id])}); err != nil {
				return err
			}
		}
	}
}

// followPresence hands the changes to waiting. It closes started when none
// will be missed from then on.
func (s *deviceService) followPresence(ctx context.Context, f filter, waiting *presences, started chan<- struct{}) error {
	synced := false
	return s.deps.Live.Watch(ctx, func(e live.Event) error {
		switch {
		case e.Synced && !synced:
			synced = true
			close(started)
		case e.Synced || !synced: // what is so already, presentState tells
		default:
			if d, ok := s.deps.Registry.Get(e.Device); ok && f.match(d) {
				waiting.put(e.Device, e.Presence)
			}
		}
		return nil
	})
}

// presentState sends how every device of the watch is now, then that this was
// all.
func (s *deviceService) presentState(f filter, stream *connect.ServerStream[operatorv1.WatchPresenceResponse]) error {
	send := func(id string) error {
		return stream.Send(&operatorv1.WatchPresenceResponse{DeviceId: id, Presence: presenceProto(s.deps.Live.Presence(id))})
	}
	if f.ids != nil {
		for _, id := range slices.Sorted(maps.Keys(f.ids)) {
			if d, ok := s.deps.Registry.Get(id); ok && f.match(d) {
				if err := send(id); err != nil {
					return err
				}
			}
		}
	} else {
		for d := range s.deps.Registry.All(f.selector, "") {
			if err := send(d.ID); err != nil {
				return err
			}
		}
	}
	return stream.Send(&operatorv1.WatchPresenceResponse{Synced: true})
}
