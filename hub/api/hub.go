package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// hubService implements operatorv1connect.HubServiceHandler.
type hubService struct{ *Server }

// GetStatus counts the devices that the caller may see. Who may not see all
// gets no figures of the hub as a whole, which tell of other people's devices.
func (s *hubService) GetStatus(ctx context.Context, _ *connect.Request[operatorv1.GetStatusRequest]) (*connect.Response[operatorv1.GetStatusResponse], error) {
	status, err := s.deps.Status(ctx)
	if err != nil {
		return nil, err
	}
	status.Devices, status.DevicesOnline = 0, 0
	here := uint64(0)
	for d := range s.deps.Registry.All(scope(ctx), "") {
		status.Devices++
		if p := s.deps.Live.Presence(d.ID); p.Online {
			status.DevicesOnline++
			if p.Node == status.Node {
				here++
			}
		}
	}
	known := s.commandsKnown(ctx)
	status.Checks = append(status.Checks, known)
	if scope(ctx).Empty() {
		if known.Ok {
			status.CommandsPending = uint32(max(s.deps.Commands.Pending(), 0))
		}
		return connect.NewResponse(status), nil
	}
	bound, err := s.boundStatus(ctx, status, known.Ok)
	if err != nil {
		return nil, err
	}
	bound.Connections = here
	return connect.NewResponse(bound), nil
}

// boundStatus is a status without what it tells of devices that the caller
// may not see, and with the caller's own counts.
func (s *hubService) boundStatus(ctx context.Context, all *operatorv1.GetStatusResponse, commandsKnown bool) (*operatorv1.GetStatusResponse, error) {
	out := &operatorv1.GetStatusResponse{
		Selector: scope(ctx).String(), Version: all.Version, Node: all.Node, Started: all.Started, Now: all.Now,
		Ready: all.Ready, Store: all.Store, Devices: all.Devices, DevicesOnline: all.DevicesOnline,
	}
	counts, err := s.deps.Quarantine.Count(ctx)
	if err != nil {
		return nil, err
	}
	for id, rows := range counts.ByDevice {
		if s.sees(ctx, id) {
			out.RowsQuarantined += rows
		}
	}
	for _, c := range all.Checks {
		if c.Name == quarantineCheck {
			c = &operatorv1.GetStatusResponse_Check{Name: c.Name, Ok: out.RowsQuarantined == 0}
			if !c.Ok {
				c.Detail = fmt.Sprintf("%d rows wait for an operator: see hubctl quarantine ls", out.RowsQuarantined)
			}
		}
		out.Checks = append(out.Checks, c)
	}
	if commandsKnown {
		out.CommandsPending, err = s.pendingOf(ctx)
	}
	return out, err
}

// commandsCheck fails while this node has not read which commands are
// pending, right after its start or for want of its store. commands_pending is
// not known then.
const commandsCheck = "commands"

// readingPatience is how long a status waits for that.
const readingPatience = 2 * time.Second

func (s *hubService) commandsKnown(ctx context.Context) *operatorv1.GetStatusResponse_Check {
	patience := time.NewTimer(readingPatience)
	defer patience.Stop()
	select {
	case <-s.deps.Commands.Ready():
		return &operatorv1.GetStatusResponse_Check{Name: commandsCheck, Ok: true}
	case <-ctx.Done():
	case <-patience.C:
	}
	return &operatorv1.GetStatusResponse_Check{Name: commandsCheck, Detail: "those that are pending have not been read from the store yet"}
}

// quarantineCheck fails while anybody's rows are in quarantine.
const quarantineCheck = "quarantine"

// pendingOf counts the commands to the caller's devices that have not ended.
func (s *hubService) pendingOf(ctx context.Context) (n uint32, err error) {
	pending := slices.DeleteFunc(commands.States(), commands.State.Ended)
	page := commands.Page{Size: commands.MaxPageSize}
	for {
		list, next, err := s.deps.Commands.List(ctx, commands.Filter{States: pending, Match: s.matching(scope(ctx))}, page)
		if err != nil {
			return 0, err
		}
		n += uint32(len(list))
		if next == "" {
			return n, nil
		}
		page.Token = next
	}
}
