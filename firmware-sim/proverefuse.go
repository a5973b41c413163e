package firmwaresim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// refusingStore stands before InfluxDB while that is to take nothing. A write
// that it refuses is stored or not: who gets no 204 cannot know.
type refusingStore struct {
	// Set once.
	server   *http.Server
	addr     string
	store    string // host:port of InfluxDB
	pass     *httputil.ReverseProxy
	client   *http.Client
	fault    string        // store-5xx, store-429 or store-mute
	status   int           // that writes are answered with
	sick     bool          // everything else is refused as well
	over     chan struct{} // closed: whoever is kept waiting is let go
	serving  sync.WaitGroup
	answered sync.WaitGroup

	refused atomic.Int64 // writes
	kept    atomic.Int64 // of these: stored nevertheless

	mu  sync.Mutex
	rng *rand.Rand
}

// newRefusingStore listens until close. What pick says of it repeats with it.
func newRefusingStore(store, fault string, pick uint64) (*refusingStore, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stand before InfluxDB: %w", err)
	}
	s := &refusingStore{
		addr: listener.Addr().String(), store: store, fault: fault, over: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{}, Timeout: callTimeout},
		rng:    rand.New(rand.NewPCG(pick, 2)),
	}
	switch fault {
	case "store-429":
		s.status = http.StatusTooManyRequests
	case "store-5xx":
		s.status = []int{http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}[pick%4]
		// A store that answers 503 may call itself well. What answers
		// otherwise is not: a server that is well and says 500 to one row
		// again and again has something against the row.
		s.sick = s.status != http.StatusServiceUnavailable || pick/4%2 == 0
	}
	s.pass = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: store})
	s.pass.Transport, s.pass.ErrorLog = s.client.Transport, log.New(io.Discard, "", 0)
	s.pass.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: callTimeout}
	s.serving.Go(func() { _ = s.server.Serve(listener) })
	return s, nil
}

// ServeHTTP answers the hub.
func (s *refusingStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.answered.Add(1)
	defer s.answered.Done()
	switch {
	case s.fault == stubbornFault:
		s.refuseOne(w, r)
	case strings.HasSuffix(r.URL.Path, "/write"):
		s.refuse(w, r)
	case s.sick:
		http.Error(w, "refused, as a test of the hub", s.status)
	default:
		s.pass.ServeHTTP(w, r)
	}
}

func (s *refusingStore) refuse(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the hub has gone
	}
	s.mu.Lock()
	keep := s.rng.IntN(3) == 0 && s.refused.Load() > 0 // the first one is lost where the hub takes it for stored
	s.mu.Unlock()
	if keep && s.write(r, body) == nil {
		s.kept.Add(1)
	}
	s.refused.Add(1)
	switch s.fault {
	case "store-mute":
		select {
		case <-s.over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // still without a word
	case "store-429":
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, "refused, as a test of the hub", s.status)
}

// refuseOne answers 500 to what has the one row in it, and passes the rest on.
func (s *refusingStore) refuseOne(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the hub has gone
	}
	if hasStubborn(body) {
		s.refused.Add(1)
		http.Error(w, "refused, as a test of the hub", http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.pass.ServeHTTP(w, r)
}

// write stores what the hub will be told is not stored.
func (s *refusingStore) write(r *http.Request, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+s.store+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = r.Header.Clone()
	answer, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return errors.New(answer.Status)
	}
	return nil
}

// close lets everybody go and waits for them.
func (s *refusingStore) close() {
	close(s.over)
	_ = s.server.Close()
	s.serving.Wait()
	s.answered.Wait()
	s.client.CloseIdleConnections()
}

// Bounds of a fault that refuses writes.
const (
	// refusalWait is how much longer it goes on, at most, until enough writes
	// have met it: the hub may be away, or give the store a rest.
	refusalWait = 15 * time.Second
	// enoughRefused are so many that one of them was not stored at all.
	enoughRefused = 2
)

// refuseWrites has the store refuse what the hub writes. A hub that is killed
// meanwhile has its buffer to read again, and says nothing about what it made
// of the refusal: that is not counted.
func (r *proof) refuseWrites(ctx context.Context, f plannedFault) error {
	s, err := newRefusingStore(r.store.addr, f.name, f.pick)
	if err != nil {
		return err
	}
	defer s.close()
	r.store.link.lead(s.addr)
	defer r.store.link.lead(r.store.addr)
	began := time.Now()
	sleep(ctx, f.lasts)
	for s.refused.Load() < enoughRefused && r.hub.steadySince(began) && time.Since(began) < f.lasts+refusalWait {
		if !sleep(ctx, 20*time.Millisecond) {
			break
		}
	}
	r.count.refusedWrites.Add(s.refused.Load())
	if s.refused.Load() < enoughRefused || !r.hub.steadySince(began) {
		return errNotMet
	}
	return nil
}
