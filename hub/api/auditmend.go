package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
)

// How far back a hub that was killed may lack audit records: no longer than
// this it has taken for the record of a command, or for knowing that it cannot
// write it now, upon which calls wait for theirs. The slack is between the
// clocks of the two.
const (
	mendBack  = auditTimeout + 5*time.Second
	mendSlack = 5 * time.Second
	// mendMost bounds the commands and the records that are looked at.
	mendMost = 100_000
)

const (
	sendCommandMethod = "CommandService/SendCommand"
	sendGroupMethod   = "CommandService/SendGroupCommand"
	mended            = "; written after the hub was killed"
)

// A hub that is killed again while it mends must find next time what it did not
// come to: until that is done, or for mendPatience after the start where the
// audit log cannot be read, no new command is accepted, from whose time the
// next start would look back.
const (
	mendPatience = time.Minute
	mendRetry    = time.Second
)

// beginMending completes the audit log, until Close; what fails it tries
// again.
func (s *Server) beginMending() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopMending = cancel
	started := time.Now()
	opened := sync.OnceFunc(func() { close(s.mended) })
	late := time.AfterFunc(mendPatience, opened)
	s.mending.Go(func() {
		defer late.Stop()
		defer opened()
		for {
			err := s.mendAudit(ctx, started)
			if err == nil || ctx.Err() != nil || errors.Is(err, commands.ErrClosed) {
				return
			}
			s.log.Warn("whether the audit log lacks commands from before the start is not known; trying again", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(mendRetry):
			}
		}
	})
}

// awaitMended waits until new commands may be accepted.
func (s *Server) awaitMended(ctx context.Context) error {
	select {
	case <-s.mended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mendAudit writes the records of commands that were accepted right before
// this hub was killed: a record follows its command, and may not have got to
// the disk. It looks at what this node had accepted before started, so that no
// call is under way any more.
func (s *Server) mendAudit(ctx context.Context, started time.Time) error {
	select {
	case <-s.deps.Commands.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	status, err := s.deps.Status(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.mendCommands(ctx, status.GetNode(), started), s.mendGroups(ctx, status.GetNode(), started))
}

func (s *Server) mendCommands(ctx context.Context, node string, started time.Time) error {
	accepted, err := s.lastAccepted(ctx, node, started)
	if err != nil || len(accepted) == 0 {
		return err
	}
	recorded, err := s.recordedSince(ctx, accepted[len(accepted)-1].Created.Add(-mendSlack), sendCommandMethod, " id=")
	if err != nil {
		return err
	}
	for i := len(accepted) - 1; i >= 0; i-- {
		c := &accepted[i]
		if recorded[c.ID] {
			continue
		}
		rec := registry.Record{
			Time: c.Created, Operator: c.Operator, Method: sendCommandMethod, Subject: c.Device, Outcome: "ok",
			Detail: acceptedDetail(c, false) + mended,
		}
		if err := s.writeAudit(ctx, s.deps.Registry.BeginAudit(rec)); err != nil {
			return err
		}
		s.log.Warn("a command that was accepted right before the hub was killed was missing from the audit log, and is in it now",
			"command", c.ID, "device", c.Device, "operator", c.Operator)
	}
	return nil
}

// lastAccepted are the commands that operators gave to this node in the last
// mendBack before it ended, the newest first.
func (s *Server) lastAccepted(ctx context.Context, node string, started time.Time) (accepted []commands.Command, err error) {
	page := commands.Page{Size: commands.MaxPageSize}
	for looked := 0; looked < mendMost; looked += page.Size {
		list, next, err := s.deps.Commands.List(ctx, commands.Filter{}, page)
		if err != nil {
			return nil, fmt.Errorf("list the newest commands: %w", err)
		}
		for i := range list {
			c := &list[i]
			if c.Operator == "" || c.Group != "" || len(c.Events) == 0 || c.Events[0].Node != node || !c.Created.Before(started) {
				continue // of a group there is one record
			}
			if len(accepted) > 0 && c.Created.Before(accepted[0].Created.Add(-mendBack)) {
				return accepted, nil
			}
			accepted = append(accepted, *c)
		}
		if next == "" {
			break
		}
		page.Token = next
	}
	return accepted, nil
}

// mendGroups does for group commands what mendCommands does for the others.
func (s *Server) mendGroups(ctx context.Context, node string, started time.Time) error {
	groups, _, err := s.deps.Commands.ListGroups(ctx, func(g *commands.Group) bool {
		return g.Operator != "" && g.Node == node && g.Created.Before(started)
	}, commands.Page{Size: commands.MaxPageSize})
	if err != nil {
		return fmt.Errorf("list the newest groups: %w", err)
	}
	if i := slices.IndexFunc(groups, func(g commands.Group) bool { return g.Created.Before(groups[0].Created.Add(-mendBack)) }); i > 0 {
		groups = groups[:i]
	}
	if len(groups) == 0 {
		return nil
	}
	recorded, err := s.recordedSince(ctx, groups[len(groups)-1].Created.Add(-mendSlack), sendGroupMethod, " group=")
	if err != nil {
		return err
	}
	for i := range slices.Backward(groups) {
		g := &groups[i]
		if recorded[g.ID] {
			continue
		}
		rec := registry.Record{
			Time: g.Created, Operator: g.Operator, Method: sendGroupMethod, Subject: g.Selector, Outcome: "ok",
			Detail: acceptedGroupDetail(g, false) + mended,
		}
		if err := s.writeAudit(ctx, s.deps.Registry.BeginAudit(rec)); err != nil {
			return err
		}
		s.log.Warn("a group command that was accepted right before the hub was killed was missing from the audit log, and is in it now",
			"group", g.ID, "operator", g.Operator)
	}
	return nil
}

// recordedSince are the ids, behind key in the details, of what a method has
// accepted since then by the audit log.
func (s *Server) recordedSince(ctx context.Context, since time.Time, method, key string) (map[string]bool, error) {
	ids := make(map[string]bool)
	page := uint64(0)
	for looked := 0; looked < mendMost; looked += registry.MaxAuditPage {
		records, next, err := s.deps.Registry.ListAudit(ctx, registry.MaxAuditPage, page)
		if err != nil {
			return nil, err
		}
		older := true // the whole page: nodes' clocks differ
		for i := range records {
			rec := &records[i]
			older = older && rec.Time.Before(since) && !strings.HasSuffix(rec.Detail, mended)
			if rec.Method == method {
				ids[acceptedID(rec.Detail, key)] = true
			}
		}
		if page = next; page == 0 || older {
			break
		}
	}
	return ids, nil
}

// acceptedID is the id in the detail of what had not existed; "": there is
// none.
func acceptedID(detail, key string) string {
	_, rest, _ := strings.Cut(detail, key)
	id, rest, _ := strings.Cut(rest, " ")
	if !strings.Contains(rest, "existed=false") {
		return ""
	}
	return id
}
