package api

import (
	"context"
	"time"

	"connectrpc.com/connect"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

const (
	maxMessageRows = 500
	// rowsPause is between two messages of one watch, so that a fast stream
	// goes in few of them.
	rowsPause = 50 * time.Millisecond
)

func (s *telemetryService) WatchRows(ctx context.Context, req *connect.Request[operatorv1.WatchRowsRequest], stream *connect.ServerStream[operatorv1.WatchRowsResponse]) error {
	f, err := s.filterOf(ctx, req.Msg.GetSelector(), req.Msg.GetDeviceIds())
	if err != nil {
		return err
	}
	w := &rowWatcher{filter: f, measurement: req.Msg.GetMeasurement(), changed: make(chan struct{}, 1)}
	if err := s.feed.join(w); err != nil {
		return err
	}
	defer s.feed.leave(w)
	// The headers go out now: the caller knows that the watch has begun.
	if err := stream.Send(nil); err != nil {
		return err
	}
	pause := time.NewTicker(rowsPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.changed:
		}
		rows, missed, broken := w.take()
		if err := sendRows(stream, rows, missed); err != nil {
			return err
		}
		if broken != nil {
			return broken
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// sendRows sends what was taken; what was missed is told first.
func sendRows(stream *connect.ServerStream[operatorv1.WatchRowsResponse], rows []*operatorv1.WatchRowsResponse_Row, missed uint64) error {
	for len(rows) > 0 || missed > 0 {
		n := min(len(rows), maxMessageRows)
		if err := stream.Send(&operatorv1.WatchRowsResponse{Rows: rows[:n], MissedRows: missed}); err != nil {
			return err
		}
		rows, missed = rows[n:], 0
	}
	return nil
}
