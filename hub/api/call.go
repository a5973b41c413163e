package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// call is one request that has passed the gate.
type call struct {
	operator registry.Operator
	addr     string          // of the caller
	under    context.Context // ends when the caller goes away, and by end, with its cause
	patience time.Duration   // for the caller to take in one message
	cancel   context.CancelCauseFunc
	heard    bool // its message has come

	auditing auditing

	mu      sync.Mutex
	conn    *http.ResponseController
	unary   bool // one answer, which is written when all is done
	writing bool
	ended   bool // by end
	over    bool // by done

	waits bool // guarded by calls.mu
}

type callKey struct{}

// callOf is the call of a context; every handler's has one.
func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return &call{under: context.Background(), conn: http.NewResponseController(nil)} // an operator who may do nothing
	}
	return c
}

// How long a caller may take to send its request, and to take in one message.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 30 * time.Second
)

// received ends the time limit of the request's body. Errors mean that the
// connection has no deadlines, or is gone, which the next read or write says.
func (c *call) received() {
	c.heard = true
	_ = c.conn.SetReadDeadline(time.Time{})
}

// single says that the call has one answer.
func (c *call) single() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unary = true
}

// sending gives the caller time to take in one message, until sent. HTTP/2
// resets a stream whose write deadline passes even while nothing is written.
func (c *call) sending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = true
	switch {
	case !c.ended:
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.patience))
	case c.unary:
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWords))
	}
}

// sent ends that time.
func (c *call) sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if !c.ended {
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
}

// end ends the call: its context, and soon a write that the caller does not
// take in. The time is for the last words, and for those of a call with one
// answer begins with them: what it has begun may have to be brought to its end
// first.
func (c *call) end(cause error) {
	c.cancel(cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.over {
		return
	}
	c.ended = true
	if !c.unary || c.writing {
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWords))
	}
}

const lastWords = 500 * time.Millisecond

const (
	// maxCalls bounds the calls of one operator that are under way at once,
	// streams included, but for those that wait.
	maxCalls = 256
	// maxWaiting bounds those that wait for the end of a command. They have a
	// bound of their own, so that an operator whose devices are slow can still
	// look at them, and cancel.
	maxWaiting = 1024
)

// calls are all calls under way, so that a revoked token ends them.
type calls struct {
	mu      sync.Mutex
	byName  map[string]map[*call]struct{}
	waiting map[string]int // of these, by operator
	most    int            // of waiting: maxWaiting
	closed  error
	under   sync.WaitGroup
}

func (c *calls) init() {
	c.byName = make(map[string]map[*call]struct{})
	c.waiting, c.most = make(map[string]int), maxWaiting
}

// begin enters a call; the error says why it must not begin.
func (c *calls) begin(one *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return c.closed
	}
	name := one.operator.Name
	if len(c.byName[name])-c.waiting[name] >= maxCalls {
		return errTooManyCalls
	}
	if c.byName[name] == nil {
		c.byName[name] = make(map[*call]struct{})
	}
	c.byName[name][one] = struct{}{}
	c.under.Add(1)
	return nil
}

// wait has a call count among those that wait from now on; the error says why
// it must not.
func (c *calls) wait(one *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := one.operator.Name
	if c.waiting[name] >= c.most {
		return errTooManyWaiting
	}
	c.waiting[name]++
	one.waits = true
	return nil
}

// done takes a call out. From now on the connection's deadlines belong to its
// next request.
func (c *calls) done(one *call) {
	one.mu.Lock()
	one.over = true
	_ = one.conn.SetWriteDeadline(time.Time{})
	one.mu.Unlock()
	one.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	name := one.operator.Name
	delete(c.byName[name], one)
	if one.waits {
		if c.waiting[name]--; c.waiting[name] == 0 {
			delete(c.waiting, name)
		}
	}
	if len(c.byName[name]) == 0 {
		delete(c.byName, name)
	}
	c.under.Done()
}

// end ends all calls of an operator.
func (c *calls) end(name string, cause error) {
	for _, one := range c.of(name) {
		one.end(cause)
	}
}

func (c *calls) of(name string) []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*call, 0, len(c.byName[name]))
	for one := range c.byName[name] {
		all = append(all, one)
	}
	return all
}

// close ends all calls and waits for them.
func (c *calls) close(cause error) {
	c.mu.Lock()
	c.closed = cause
	names := make([]string, 0, len(c.byName))
	for name := range c.byName {
		names = append(names, name)
	}
	c.mu.Unlock()
	for _, name := range names {
		c.end(name, cause)
	}
	c.under.Wait()
}
