package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/tetherline/tetherline/commands"
	"github.com/tetherline/tetherline/hub/registry"
)

// A key of an operator who sees all devices is the id of its command. One who
// is bound to a selector has keys of its own: were they shared, a key that is
// taken would tell of a command out of its reach. The id is made of the
// operator's name and identity and the key, so that it is the same on every node
// and after a restart, and another one for a later operator of the same name.

// idOfKey is the id that a key stands for; none for no key. Errors wrap
// commands.ErrInvalid.
func idOfKey(ctx context.Context, key string) (string, error) {
	if key == "" {
		return "", nil
	}
	if err := commands.CheckKey(key); err != nil {
		return "", err
	}
	if scope(ctx).Empty() {
		return key, nil
	}
	return boundID(&callOf(ctx).operator, key), nil
}

// boundID begins with the key where there is room, and ends with 64 bits of
// the operator and the key, so that nobody can aim at the id of another.
func boundID(o *registry.Operator, key string) string {
	sum := sha256.Sum256([]byte("key\x00" + o.Name + "\x00" + o.ID() + "\x00" + key))
	tail := base64.RawURLEncoding.EncodeToString(sum[:8])
	if len(key)+1+len(tail) > commands.MaxIDBytes {
		key = "k" + base64.RawURLEncoding.EncodeToString(sum[8:24])
	}
	return key + "." + tail
}

// idsOf are the ids that the caller may mean: of its key, and what it says.
func idsOf(ctx context.Context, said string) []string {
	id, err := idOfKey(ctx, said)
	if err != nil || id == said || id == "" {
		return []string{said}
	}
	return []string{id, said}
}

// commandConflict says which command or group a key belongs to, where the
// caller may know.
func (s *commandService) commandConflict(ctx context.Context, key, id string) error {
	return fmt.Errorf("key %s: %w%s; nothing was sent: what differs in device, name, arguments or terms needs another key", key, commands.ErrConflict, s.holder(ctx, id))
}

// groupConflict is the same for a group command.
func (s *commandService) groupConflict(ctx context.Context, key, id string) error {
	return fmt.Errorf("key %s: %w%s; nothing was sent: what differs in selector, command, rate or limits needs another key", key, commands.ErrConflict, s.holder(ctx, id))
}

// holder is what has an id, in brackets; "" where the caller may not know.
func (s *commandService) holder(ctx context.Context, id string) string {
	if c, _, err := s.deps.Commands.Get(ctx, id); err == nil {
		if !s.sees(ctx, c.Device) {
			return ""
		}
		return fmt.Sprintf(" (%q to %s, which is %s)", c.Spec.Name, c.Device, c.State)
	}
	if g, err := s.deps.Commands.GetGroup(ctx, id); err == nil && ownGroup(ctx, &g) {
		return fmt.Sprintf(" (%q to the group %s, which is %s)", g.Spec.Name, g.Selector, g.State)
	}
	return ""
}

// unambiguous refuses to cancel what a key stands for when another command
// that the caller sees has that as its id.
func (s *commandService) unambiguous(ctx context.Context, said, id string) error {
	if said == id {
		return nil
	}
	if c, _, err := s.deps.Commands.Get(ctx, said); err == nil && s.sees(ctx, c.Device) {
		return fmt.Errorf("%w: %s is the key of this operator's command %s, and the id of another command to %s: name the first by its id; the second only an operator who sees all devices can cancel",
			commands.ErrInvalid, said, id, c.Device)
	}
	return nil
}
