package natsd

import "sync"

// mqttWindow bounds the messages of QoS 1 and 2 of one client that the server
// has been given and has not taken. The server answers all that has piled up
// in its store's queue at once, when the last of it is synced, and ends the
// connection where that takes longer than storeTimeout: a client with a
// thousand messages in flight on a slow disk would hear nothing, be cut off,
// send them all again, and so for ever. With fewer the answers come as they go,
// and the rest waits in the client's own connection.
const mqttWindow = 64

// window counts what is in flight of one client. All methods may run at once.
type window struct {
	mu    sync.Mutex
	freed sync.Cond
	taken int
	ended bool
}

func newWindow() *window {
	w := new(window)
	w.freed.L = &w.mu
	return w
}

// tryEnter counts a message in, where there is room.
func (w *window) tryEnter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enterLocked()
}

func (w *window) enterLocked() bool {
	if w.taken >= mqttWindow {
		return false
	}
	w.taken++
	return true
}

// enter counts a message in as soon as there is room; false: end was called.
func (w *window) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.ended {
		if w.enterLocked() {
			return true
		}
		w.freed.Wait()
	}
	return false
}

// leave counts out what the server has answered.
func (w *window) leave(answered int) {
	if answered == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = max(0, w.taken-answered)
	w.freed.Signal()
}

// end has enter return, now and from now on.
func (w *window) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.freed.Broadcast()
}
