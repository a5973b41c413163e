package commands_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/commands/jsstore"
	"github.com/tetherline/tetherline/hub/natsd"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(hubOf); url != "" {
		if err := hubToKill(url); err != nil {
			fmt.Fprintln(os.Stderr, "a hub that was to be killed:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// startNATS starts an embedded JetStream that fsyncs always.
func startNATS(t testing.TB) *natsd.Node {
	t.Helper()
	n, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir(), Name: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = n.Stop(ctx)
	})
	return n
}

func newStore(t testing.TB, n *natsd.Node) *jsstore.Store {
	t.Helper()
	s, err := jsstore.New(t.Context(), jsstore.Config{Conn: n.Conn(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// devices is a registry of devices that are all there, but for those named.
type devices struct {
	disabled, unknown []string
	selected          []string

	mu            sync.Mutex
	registrations map[string]string // none for a device: ""
	onRefresh     func(device string)
}

func (r *devices) CheckDevice(_ context.Context, id string) error {
	switch {
	case slices.Contains(r.disabled, id):
		return commands.ErrDeviceDisabled
	case slices.Contains(r.unknown, id):
		return commands.ErrUnknownDevice
	}
	return nil
}

func (r *devices) Registration(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registrations[id]
}

func (r *devices) Refresh(_ context.Context, id string) error {
	if r.onRefresh != nil {
		r.onRefresh(id)
	}
	return nil
}

// register makes the name that of another device; "": it is removed.
func (r *devices) register(id, registration string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registrations == nil {
		r.registrations = map[string]string{}
	}
	r.registrations[id] = registration
}

func (r *devices) SelectDevices(_ context.Context, selector string) ([]string, error) {
	if strings.Contains(selector, "!") {
		return nil, fmt.Errorf("%w: bad selector", commands.ErrInvalid)
	}
	return r.selected, nil
}

// hub is a dispatcher with its sessions: what a process has and loses.
type hub struct {
	t      testing.TB
	d      *commands.Dispatcher
	cancel context.CancelFunc
	done   chan error

	mu       sync.Mutex
	sessions map[string]*session
	refused  []time.Time // Sends without a session
}

type session struct {
	epoch  uint64
	device *device
	frames chan *devicev1.HubFrame
	over   chan struct{}
	ended  chan struct{}

	severed bool // guarded by hub.mu
}

type hubOption func(*commands.Config)

func startHub(t testing.TB, node string, store commands.Store, options ...hubOption) *hub {
	t.Helper()
	h := &hub{t: t, sessions: map[string]*session{}, done: make(chan error, 1)}
	cfg := commands.Config{Node: node, Store: store, Devices: &devices{}, Sender: h, Logger: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(&cfg)
	}
	d, err := commands.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.d, h.cancel = d, cancel
	go func() { h.done <- d.Run(ctx) }()
	t.Cleanup(h.stop)
	select {
	case <-d.Ready():
	case <-time.After(2 * time.Minute):
		t.Fatal("the dispatcher does not become ready")
	}
	return h
}

// stop ends the process: its sessions break, its dispatcher stops.
func (h *hub) stop() {
	h.mu.Lock()
	var all []string
	for id := range h.sessions {
		all = append(all, id)
	}
	h.mu.Unlock()
	for _, id := range all {
		h.disconnect(id)
	}
	h.cancel()
	if err, ok := <-h.done; ok && err != nil {
		h.t.Errorf("Run: %v", err)
	}
	select {
	case <-h.done:
	default:
		close(h.done)
	}
}

// Send implements commands.Sender.
func (h *hub) Send(id string, f *devicev1.HubFrame) (uint64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	if s == nil {
		h.refused = append(h.refused, time.Now())
		return 0, false
	}
	select {
	case s.frames <- f:
		return s.epoch, true
	default:
		return 0, false
	}
}

// connect gives the device a session on this hub.
func (h *hub) connect(v *device) uint64 {
	h.t.Helper()
	v.mu.Lock()
	v.epoch++
	epoch := v.epoch
	v.mu.Unlock()
	s := &session{
		epoch: epoch, device: v, frames: make(chan *devicev1.HubFrame, 256),
		over: make(chan struct{}), ended: make(chan struct{}),
	}
	h.mu.Lock()
	h.sessions[v.id] = s
	h.mu.Unlock()
	go s.run(h.d)
	h.d.Connected(v.id, epoch)
	return epoch
}

// sever cuts a session without the hub noticing: what it sends is lost.
func (h *hub) sever(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	close(s.over)
	<-s.ended
	s.severed = true
}

func (h *hub) disconnect(id string) {
	h.mu.Lock()
	s := h.sessions[id]
	delete(h.sessions, id)
	h.mu.Unlock()
	if s == nil {
		return
	}
	if !s.severed {
		close(s.over)
		<-s.ended
	}
	h.d.Disconnected(id, s.epoch)
}

// run is the device's side of a session and the session's own.
func (s *session) run(d *commands.Dispatcher) {
	defer close(s.ended)
	for _, u := range s.device.reports() {
		s.report(d, u)
	}
	for {
		select {
		case <-s.over:
			return
		case f := <-s.frames:
			for _, u := range s.device.receive(f) {
				s.report(d, u)
			}
		case u := <-s.device.later:
			s.report(d, u)
		}
	}
}

func (s *session) report(d *commands.Dispatcher, u *devicev1.CommandUpdate) {
	select {
	case <-s.over:
		return
	default:
	}
	final, err := d.Update(context.Background(), s.device.id, s.epoch, u)
	if final && err == nil {
		s.device.acked(u.GetId())
	}
}

// device follows the rules of the device protocol: it remembers the ids it
// has executed, answers a repeated one with what it recorded, and reports an
// end until that is acknowledged.
type device struct {
	id    string
	later chan *devicev1.CommandUpdate

	// do is what the device does with a command; nil: it succeeds at once.
	// It returns the words it says, DELIVERED included.
	do func(c *devicev1.Command) []*devicev1.CommandUpdate

	mu       sync.Mutex
	deaf     bool // it loses what it is sent
	lost     int  // frames
	epoch    uint64
	received []string // command ids, in order, repetitions included
	canceled []string
	ran      map[string]int
	said     map[string]*devicev1.CommandUpdate // the last word on each id
	unacked  map[string]bool
}

func newDevice(id string) *device {
	return &device{
		id: id, later: make(chan *devicev1.CommandUpdate, 64), ran: map[string]int{},
		said: map[string]*devicev1.CommandUpdate{}, unacked: map[string]bool{},
	}
}

func (v *device) reports() []*devicev1.CommandUpdate {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*devicev1.CommandUpdate
	for id := range v.unacked {
		out = append(out, v.said[id])
	}
	return out
}

func (v *device) receive(f *devicev1.HubFrame) []*devicev1.CommandUpdate {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deaf {
		v.lost++
		return nil
	}
	if cancel := f.GetCommandCancel(); cancel != nil {
		id := cancel.GetId()
		v.canceled = append(v.canceled, id)
		if last := v.said[id]; last != nil && last.GetPhase() > devicev1.CommandPhase_COMMAND_PHASE_RUNNING {
			return []*devicev1.CommandUpdate{last}
		}
		return v.sayLocked(word(id, devicev1.CommandPhase_COMMAND_PHASE_CANCELED))
	}
	c := f.GetCommand()
	if c == nil {
		return nil
	}
	v.received = append(v.received, c.GetId())
	if last := v.said[c.GetId()]; last != nil {
		return []*devicev1.CommandUpdate{last}
	}
	v.ran[c.GetId()]++
	words := []*devicev1.CommandUpdate{
		word(c.GetId(), devicev1.CommandPhase_COMMAND_PHASE_DELIVERED),
		word(c.GetId(), devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED),
	}
	if v.do != nil {
		words = v.do(c)
	}
	return v.sayLocked(words...)
}

func (v *device) sayLocked(words ...*devicev1.CommandUpdate) []*devicev1.CommandUpdate {
	for _, u := range words {
		v.said[u.GetId()] = u
		v.unacked[u.GetId()] = u.GetPhase() > devicev1.CommandPhase_COMMAND_PHASE_RUNNING
		if !v.unacked[u.GetId()] {
			delete(v.unacked, u.GetId())
		}
	}
	return words
}

// say something by itself, on the session it has or the next.
func (v *device) say(u *devicev1.CommandUpdate) {
	v.mu.Lock()
	v.sayLocked(u)
	v.mu.Unlock()
	v.later <- u
}

func (v *device) deafen(deaf bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deaf = deaf
}

func (v *device) acked(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.unacked, id)
}

func (v *device) got() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.received)
}

// asked are the commands that it was asked to stop.
func (v *device) asked() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.canceled)
}

func (v *device) runs(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ran[id]
}

func word(id string, phase devicev1.CommandPhase) *devicev1.CommandUpdate {
	return &devicev1.CommandUpdate{Id: id, Phase: phase}
}

const (
	delivered = devicev1.CommandPhase_COMMAND_PHASE_DELIVERED
	running   = devicev1.CommandPhase_COMMAND_PHASE_RUNNING
	succeeded = devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED
	failed    = devicev1.CommandPhase_COMMAND_PHASE_FAILED
)

// only makes a device say just these phases.
func only(phases ...devicev1.CommandPhase) func(*devicev1.Command) []*devicev1.CommandUpdate {
	return func(c *devicev1.Command) []*devicev1.CommandUpdate {
		var out []*devicev1.CommandUpdate
		for _, p := range phases {
			out = append(out, word(c.GetId(), p))
		}
		return out
	}
}

// send a command that must be accepted.
func (h *hub) send(r commands.Request) commands.Command {
	h.t.Helper()
	if r.Spec.Name == "" {
		r.Spec.Name = "set-relay"
	}
	c, _, err := h.d.Send(context.Background(), r)
	if err != nil {
		h.t.Fatalf("Send: %v", err)
	}
	return c
}

// want waits until the command is in the state.
func (h *hub) want(id string, state commands.State) commands.Command {
	h.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		c, _, err := h.d.Get(context.Background(), id)
		if err == nil && c.State == state {
			return c
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("command %s is %s (%s), %v; want %s\n%s", id, c.State, c.Reason, err, state, story(c))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func story(c commands.Command) string {
	var b strings.Builder
	for _, e := range c.Events {
		fmt.Fprintf(&b, "%s %s attempt %d session %d on %s: %s\n", e.Time.Format("05.000"), e.State, e.Attempt, e.Epoch, e.Node, e.Reason)
	}
	return b.String()
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
