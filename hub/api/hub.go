package api

import (
	"context"

	"connectrpc.com/connect"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// hubService implements operatorv1connect.HubServiceHandler.
type hubService struct{ *Server }

// GetStatus counts the devices that the caller may see. The other figures are
// those of the hub as a whole, for everybody: they tell of no device.
func (s *hubService) GetStatus(ctx context.Context, _ *connect.Request[operatorv1.GetStatusRequest]) (*connect.Response[operatorv1.GetStatusResponse], error) {
	status, err := s.deps.Status(ctx)
	if err != nil {
		return nil, err
	}
	status.Devices, status.DevicesOnline = 0, 0
	for d := range s.deps.Registry.All(scope(ctx), "") {
		status.Devices++
		if s.deps.Live.Presence(d.ID).Online {
			status.DevicesOnline++
		}
	}
	status.CommandsPending = uint32(max(s.deps.Commands.Pending(), 0))
	return connect.NewResponse(status), nil
}
