package mqttbridge

import (
	"context"
	"hash/fnv"
	"sync"
	"sync/atomic"
)

// desk does what commands need that may wait: durable writes and publishing.
// What is done for one device is done in order. What waits is bounded by the
// commands that devices may have pending.
type desk struct {
	lanes [4]lane
	open  atomic.Int64 // jobs that are not done
}

type lane struct {
	wake chan struct{} // has room for one word

	mu   sync.Mutex
	jobs []func(ctx context.Context)
}

func (d *desk) init() {
	for i := range d.lanes {
		d.lanes[i].wake = make(chan struct{}, 1)
	}
}

// do f for a device, after what was to be done for it before.
func (d *desk) do(device string, f func(ctx context.Context)) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(device))
	l := &d.lanes[h.Sum32()%uint32(len(d.lanes))]
	d.open.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs = append(l.jobs, f)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// idle reports whether everything is done.
func (d *desk) idle() bool { return d.open.Load() == 0 }

// start works until ctx ends. What is left then is not done.
func (d *desk) start(ctx context.Context, wait *sync.WaitGroup) {
	for i := range d.lanes {
		wait.Go(func() { d.work(ctx, &d.lanes[i]) })
	}
}

func (d *desk) work(ctx context.Context, l *lane) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		l.mu.Lock()
		jobs := l.jobs
		l.jobs = nil
		l.mu.Unlock()
		for _, f := range jobs {
			if ctx.Err() == nil {
				f(ctx)
			}
			d.open.Add(-1)
		}
	}
}
