package influx

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// keptBytes is the largest buffer that is kept for the next write.
const keptBytes = 8 << 20

// Write posts the rows of b in one request. After a BadRows error the server
// has mostly stored the rows that it could, but not always (1.8, over its
// limit of series); it names one row at fault at most.
func (s *Store) Write(ctx context.Context, b telemetry.Batch) error {
	if b.Rows == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return &telemetry.SinkError{Class: telemetry.Retry, Err: fmt.Errorf("influxdb: %w", err)}
	}
	buf := s.buffers.get()
	lines, err := wire.AppendLines(buf.lines[:0], b)
	if err != nil {
		s.buffers.put(buf)
		return &telemetry.SinkError{Class: telemetry.BadRows, Err: fmt.Errorf("encode rows: %w", err)}
	}
	buf.lines = lines
	body := lines
	if s.config.Gzip {
		body = buf.compress()
	}
	var loan lent
	postCtx, cancel := context.WithTimeout(context.WithValue(ctx, lentKey{}, &loan), s.config.Timeout)
	defer cancel()
	err = s.write.WriteRecord(postCtx, unsafe.String(unsafe.SliceData(body), len(body)))
	if loan.returned() {
		s.buffers.put(buf) // else the garbage collector has it when the transport lets go
	}
	if err == nil {
		return nil
	}
	return s.sinkError(ctx, err)
}

// sinkError is what an error of the client means to the caller.
func (s *Store) sinkError(ctx context.Context, err error) error {
	var se *telemetry.SinkError
	if errors.As(err, &se) {
		return se
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %v: %w", s.config.Timeout, err)
	}
	return &telemetry.SinkError{Class: telemetry.Retry, Err: fmt.Errorf("write to InfluxDB: %w", err)}
}

// buffer is what one write works in.
type buffer struct {
	lines  []byte
	packed bytes.Buffer
	gzip   *gzip.Writer
}

// compress is lines packed, in the buffer's own memory.
func (b *buffer) compress() []byte {
	b.packed.Reset()
	if b.gzip == nil {
		b.gzip, _ = gzip.NewWriterLevel(&b.packed, gzip.BestSpeed)
	} else {
		b.gzip.Reset(&b.packed)
	}
	// A bytes.Buffer does not fail.
	_, _ = b.gzip.Write(b.lines)
	_ = b.gzip.Close()
	return b.packed.Bytes()
}

// buffers keeps buffers from write to write.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{}
}

func (p *buffers) put(b *buffer) {
	if cap(b.lines)+b.packed.Cap() <= keptBytes {
		p.pool.Put(b)
	}
}
