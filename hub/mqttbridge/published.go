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

// claim the right to publish a command. first: it is the caller's; else
// somebody has claimed it at that time. revision is that of the claim. After an error it may
// be claimed.
func (p *published) claim(ctx context.Context, id, device string) (first bool, revision uint64, at time.Time, err error) {
	at = time.Now().UTC()
	value, err := json.Marshal(claim{device, at})
	if err != nil {
		return false, 0, at, err
	}
	key := publishedKey(id)
	revision, err = p.kv.Create(ctx, key, value)
	if err == nil {
		return true, revision, at, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return false, 0, at, fmt.Errorf("write down that the command is published: %w", err)
	}
	known, err := p.kv.Get(ctx, key)
	if err != nil {
		return false, 0, at, fmt.Errorf("read whether the command was published: %w", err)
	}
	var c claim
	if json.Unmarshal(known.Value(), &c) == nil && !c.At.IsZero() {
		at = c.At
	}
	return false, known.Revision(), at, nil
}

// unclaim gives the claim back: nothing was published.
func (p *published) unclaim(ctx context.Context, id string, revision uint64) error {
	return p.kv.Delete(ctx, publishedKey(id), jetstream.LastRevision(revision))
}

// publishedKey is the id in the characters of a key.
func publishedKey(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }
