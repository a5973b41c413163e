package natsd

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// durable is JetStream on the embedded server: what writes has returned when
// the names of the files are durable too, and not only what is in them. An
// error after the server has taken a message says that it may not survive a
// loss of power.
type durable struct {
	jetstream.JetStream
	folders *folders
	closed  <-chan struct{} // when the connection is
}

// Another is one more context on the connection of js, with options of its own
// and as durable as js.
func Another(js jetstream.JetStream, opts ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	more, err := jetstream.New(js.Conn(), opts...)
	if d, ok := js.(durable); ok && err == nil {
		more = durable{more, d.folders, d.closed}
	}
	return more, err
}

func (d durable) settled(ack *jetstream.PubAck, err error) (*jetstream.PubAck, error) {
	if err == nil {
		err = d.folders.settle(ack.Stream)
	}
	if err != nil {
		return nil, err
	}
	return ack, nil
}

func (d durable) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return d.settled(d.JetStream.Publish(ctx, subject, data, opts...))
}

func (d durable) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return d.settled(d.JetStream.PublishMsg(ctx, m, opts...))
}

func (d durable) PublishAsync(subject string, data []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return d.later(d.JetStream.PublishAsync(subject, data, opts...))
}

func (d durable) PublishMsgAsync(m *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return d.later(d.JetStream.PublishMsgAsync(m, opts...))
}

// future is an answer that comes when the files' names are durable.
type future struct {
	jetstream.PubAckFuture
	ok  chan *jetstream.PubAck
	err chan error
}

func (f *future) Ok() <-chan *jetstream.PubAck { return f.ok }

func (f *future) Err() <-chan error { return f.err }

// later waits for the server's answer, as long as there is a connection: the
// client itself forgets who waits when it is closed.
func (d durable) later(of jetstream.PubAckFuture, err error) (jetstream.PubAckFuture, error) {
	if err != nil {
		return nil, err
	}
	f := &future{of, make(chan *jetstream.PubAck, 1), make(chan error, 1)}
	go func() {
		select {
		case ack := <-of.Ok():
			if ack, err := d.settled(ack, nil); err != nil {
				f.err <- err
			} else {
				f.ok <- ack
			}
		case err := <-of.Err():
			f.err <- err
		case <-d.closed:
			f.err <- nats.ErrConnectionClosed
		}
	}()
	return f, nil
}

func (d durable) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return made(d.JetStream.CreateStream(ctx, cfg))(d, cfg.Name)
}

func (d durable) CreateOrUpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return made(d.JetStream.CreateOrUpdateStream(ctx, cfg))(d, cfg.Name)
}

// made hands a stream on when its folders are durable.
func made(s jetstream.Stream, err error) func(d durable, name string) (jetstream.Stream, error) {
	return func(d durable, name string) (jetstream.Stream, error) {
		if err == nil {
			err = d.folders.settle(name)
		}
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// bucketStream begins the name of the stream of a bucket.
const bucketStream = "KV_"

// bucket is a key-value bucket whose writes are durable as those of durable.
type bucket struct {
	jetstream.KeyValue
	folders *folders
}

func (d durable) bucket(kv jetstream.KeyValue, err error) (jetstream.KeyValue, error) {
	if err == nil {
		err = d.folders.settle(bucketStream + kv.Bucket())
	}
	if err != nil {
		return nil, err
	}
	return bucket{kv, d.folders}, nil
}

func (d durable) KeyValue(ctx context.Context, name string) (jetstream.KeyValue, error) {
	return d.bucket(d.JetStream.KeyValue(ctx, name))
}

func (d durable) CreateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return d.bucket(d.JetStream.CreateKeyValue(ctx, cfg))
}

func (d durable) UpdateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return d.bucket(d.JetStream.UpdateKeyValue(ctx, cfg))
}

func (d durable) CreateOrUpdateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	return d.bucket(d.JetStream.CreateOrUpdateKeyValue(ctx, cfg))
}

func (b bucket) settled(revision uint64, err error) (uint64, error) {
	if err == nil {
		err = b.folders.settle(bucketStream + b.Bucket())
	}
	return revision, err
}

func (b bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.settled(b.KeyValue.Put(ctx, key, value))
}

func (b bucket) PutString(ctx context.Context, key string, value string) (uint64, error) {
	return b.settled(b.KeyValue.PutString(ctx, key, value))
}

func (b bucket) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	return b.settled(b.KeyValue.Create(ctx, key, value, opts...))
}

func (b bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.settled(b.KeyValue.Update(ctx, key, value, revision))
}

func (b bucket) Delete(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := b.settled(0, b.KeyValue.Delete(ctx, key, opts...))
	return err
}

func (b bucket) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := b.settled(0, b.KeyValue.Purge(ctx, key, opts...))
	return err
}
