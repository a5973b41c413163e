package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// What NewServer sets.
const (
	readHeaderTimeout    = 10 * time.Second // of TLS handshake, and then of the request's header
	requestTimeout       = 15 * time.Second // of the request with its body
	answerTimeout        = 30 * time.Second // from the end of the request's header
	idleTimeout          = 2 * time.Minute
	maxRequestHeaderSize = 16 << 10
)

// NewServer is an http.Server for l with the limits that belong to it: serve
// it with server.ServeTLS(l, "", "") or server.Serve(l). A request and its
// answer have 15 s and 30 s: a handler that takes longer, or streams, moves the
// deadlines with an http.ResponseController, and calls Known once it knows
// whom it serves.
func NewServer(handler http.Handler, l *Listener, config *tls.Config, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           spoken(handler),
		TLSConfig:         config,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeaderSize,
		ConnState:         l.ConnState,
		ConnContext:       connContext,
		// Everybody who scans the port makes net/http log a line.
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// strangerKey is the stranger in the context of a request.
type strangerKey struct{}

// connContext is for http.Server.ConnContext.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if s := strangerOf(c); s != nil {
		return context.WithValue(ctx, strangerKey{}, s)
	}
	return ctx
}

// Known says that whoever makes the request of ctx has proved who he is: his
// connection is none of a stranger's until the request is over.
func Known(ctx context.Context) {
	if s, ok := ctx.Value(strangerKey{}).(*stranger); ok {
		s.listener.release(s)
	}
}

// spoken notes that a request has come on the connection.
func spoken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := r.Context().Value(strangerKey{}).(*stranger); ok {
			s.listener.mu.Lock()
			s.spoke = true
			s.listener.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}
