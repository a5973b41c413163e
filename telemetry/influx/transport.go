package influx

import (
	"io"
	"net/http"
	"strings"
	"sync"
)

// doer is the HTTP client below influxdb-client-go. It turns error answers
// into SinkErrors and watches the bodies of writes.
type doer struct {
	client *http.Client
	gzip   bool
}

// Do sends a request of influxdb-client-go.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	if lent, ok := req.Context().Value(lentKey{}).(*lent); ok {
		lent.attach(req)
		if d.gzip {
			req.Header.Set("Content-Encoding", "gzip")
		}
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, answerError(resp)
	}
	return resp, nil
}

type lentKey struct{}

// lent knows whether the transport still reads a buffer that was lent to it.
// Do may return before that: on a timeout, or when the server answers early.
type lent struct {
	mu   sync.Mutex
	open int // bodies
}

// attach watches the body of req, and the copies that the transport makes of
// it when it sends the request again over another connection.
func (l *lent) attach(req *http.Request) {
	if req.Body != nil {
		req.Body = l.watch(req.Body)
	}
	if again := req.GetBody; again != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			if err != nil {
				return nil, err
			}
			return l.watch(body), nil
		}
	}
}

func (l *lent) watch(body io.ReadCloser) io.ReadCloser {
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	return &watchedBody{ReadCloser: body, lent: l}
}

// returned reports whether every body is closed.
func (l *lent) returned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open == 0
}

// watchedBody serializes Read and Close: a Read that is under way ends before
// Close returns, and later ones find nothing.
type watchedBody struct {
	io.ReadCloser
	lent *lent

	mu     sync.Mutex
	closed bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}

func (b *watchedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	err := b.ReadCloser.Close()
	b.lent.mu.Lock()
	b.lent.open--
	b.lent.mu.Unlock()
	return err
}

// mediaType of an answer, without parameters.
func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}
