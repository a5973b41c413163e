package jsbuffer

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
)

var errLinkLost = errors.New("the nats connection was lost")

// link ends what waits for an answer when the connection that it was asked on
// is lost: the answer would never come.
type link struct {
	nc     *nats.Conn
	events chan nats.Status

	mu   sync.Mutex
	ctx  context.Context // ends with the present connection
	lose context.CancelCauseFunc
}

func (l *link) init(nc *nats.Conn) {
	l.nc = nc
	l.ctx, l.lose = context.WithCancelCause(context.Background())
	l.events = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
}

// watch runs until close.
func (l *link) watch() {
	for range l.events {
		l.mu.Lock()
		l.lose(errLinkLost)
		l.ctx, l.lose = context.WithCancelCause(context.Background())
		l.mu.Unlock()
	}
	l.lose(errLinkLost)
}

func (l *link) close() { l.nc.RemoveStatusListener(l.events) }

// until ends with ctx, or with the connection; then its cause is errLinkLost.
func (l *link) until(ctx context.Context) (context.Context, func()) {
	l.mu.Lock()
	present := l.ctx
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(present, func() { cancel(errLinkLost) })
	return ctx, func() { stop(); cancel(nil) }
}
