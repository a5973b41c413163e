package mqttbridge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tetherline/tetherline/commands"
)

const (
	publishedBucket = "bridge_published"
	// publishedAge is longer than any command can be sent again.
	publishedAge = commands.MaxTTL + commands.MaxTimeout
)

// published remembers, durably, which commands have been published or were
// about to be: a command is published once, whatever crashes and however often
// it is sent. All methods may run at once.
type published struct {
	js       jetstream.JetStream
	replicas int

	kv jetstream.KeyValue
}

// claim is what is stored under a command's id.
type claim struct {
	Device string    `json:"device"`
	At     time.Time `json:"at"`
	// Never: it was not published, and never will be.
	Never bool `json:"never,omitempty"`
}

// claimed is what has become of the wish to claim a command.
type claimed struct {
	first    bool // it is the caller's; else somebody had claimed it
	never    bool // the claim that stands bars the command from being published
	revision uint64
	at       time.Time // of the claim that stands
}

func (p *published) open(ctx context.Context) error {
	kv, err := p.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: publishedBucket, Description: "commands that the MQTT bridge has published", History: 1,
		TTL: publishedAge, Storage: jetstream.FileStorage, Replicas: p.replicas,
	})
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", publishedBucket, err)
	}
	p.kv = kv
	return nil
}

// claim the right to publish a command. After an error it may be claimed.
func (p *published) claim(ctx context.Context, id, device string) (claimed, error) {
	return p.write(ctx, id, claim{Device: device, At: time.Now().UTC()})
}

// bar a command that nobody has claimed from ever being published. It is false
// where it was published, or was about to be. After an error that is not known.
func (p *published) bar(ctx context.Context, id, device string) (bool, error) {
	c, err := p.write(ctx, id, claim{Device: device, At: time.Now().UTC(), Never: true})
	return err == nil && c.never, err
}

func (p *published) write(ctx context.Context, id string, c claim) (claimed, error) {
	value, err := json.Marshal(c)
	if err != nil {
		return claimed{}, err
	}
	key := publishedKey(id)
	revision, err := p.kv.Create(ctx, key, value)
	if err == nil {
		return claimed{first: true, never: c.Never, revision: revision, at: c.At}, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return claimed{}, fmt.Errorf("write down whether the command is published: %w", err)
	}
	known, err := p.kv.Get(ctx, key)
	if err != nil {
		return claimed{}, fmt.Errorf("read whether the command was published: %w", err)
	}
	var stands claim
	if json.Unmarshal(known.Value(), &stands) != nil || stands.At.IsZero() {
		stands = claim{At: c.At}
	}
	return claimed{never: stands.Never, revision: known.Revision(), at: stands.At}, nil
}

// unclaim gives the claim back: nothing was published.
func (p *published) unclaim(ctx context.Context, id string, revision uint64) error {
	return p.kv.Delete(ctx, publishedKey(id), jetstream.LastRevision(revision))
}

// publishedKey is the id in the characters of a key.
func publishedKey(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }
