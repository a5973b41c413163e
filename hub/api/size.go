package api

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
)

// Bounds of one message, in bytes.
const (
	maxRequestBytes  = 1 << 20 // as it comes in, and decompressed
	maxResponseBytes = 64 << 20
	// minCompressBytes spares small answers gzip, which takes longer than
	// the rest of a command's way.
	minCompressBytes = 4 << 10
	// maxUnheardBytes of a request that is too large are read for nothing,
	// because some clients hear no answer before they have sent it all.
	maxUnheardBytes = 8 << 20
)

// errTooLarge is made anew for each caller: connect may add to it.
func errTooLarge() error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
		"the request is over the limit of %d bytes: send less in one call; the payload of a command may have %d bytes, and %s",
		maxRequestBytes, commands.MaxPayloadBytes, commands.PayloadAdvice))
}

// boundedBody is the body of a request. It ends with errTooLarge where it is
// larger than a request may be; connect's own limit would call that exhausted,
// and read on for as long as the caller sends.
type boundedBody struct {
	io.ReadCloser
	left int64 // that may come
	err  error // that ended it, but for its end
}

func bounded(r *http.Request) *boundedBody {
	return &boundedBody{ReadCloser: r.Body, left: maxRequestBytes + envelopeBytes}
}

// envelopeBytes stand before a message in gRPC.
const envelopeBytes = 5

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	switch {
	case b.left < 0:
		_, _ = io.CopyN(io.Discard, b.ReadCloser, maxUnheardBytes)
		b.err = errTooLarge()
		return 0, b.err
	case err != nil && !errors.Is(err, io.EOF):
		b.err = err
	}
	return n, err
}

// withBoundedGzip has requests decompressed up to the same limit.
func withBoundedGzip() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCompression("gzip", nil, nil), // that of connect goes
		connect.WithCompression("gzip",
			func() connect.Decompressor { return new(boundedGzip) },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
	)
}

type boundedGzip struct {
	gzip.Reader
	left int64
}

func (g *boundedGzip) Reset(r io.Reader) error {
	g.left = maxRequestBytes
	return g.Reader.Reset(r)
}

func (g *boundedGzip) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p[:min(int64(len(p)), g.left+1)])
	if g.left -= int64(n); g.left < 0 {
		return 0, errTooLarge()
	}
	return n, err
}

// auditUnheard records a call that would have changed something, and whose
// message did not come as far as the guard, which records the others.
func (s *Server) auditUnheard(r *http.Request, c *call, body *boundedBody) {
	if c.heard || r.Method != http.MethodPost || !accessTable[r.URL.Path].audited {
		return
	}
	rec := registry.Record{
		Operator: c.operator.Name, Method: shortMethod(r.URL.Path), RemoteAddr: c.addr,
		Outcome: connect.CodeInvalidArgument.String(), Detail: "a request that cannot be read",
	}
	switch {
	case body.left < 0:
		rec.Detail = fmt.Sprintf("a request of over %d bytes", maxRequestBytes)
	case body.err != nil:
		rec.Outcome, rec.Detail = connect.CodeCanceled.String(), "a request that did not come whole"
	}
	if err := s.writeAudit(r.Context(), s.deps.Registry.BeginAudit(rec)); err != nil {
		s.log.Error("a refused call is missing from the audit log", "procedure", r.URL.Path, "operator", rec.Operator, "error", err)
	}
}
