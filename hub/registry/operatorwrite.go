package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrLastAdmin says that the last admin without a selector cannot go: nobody
// could make another.
var ErrLastAdmin = errors.New("the last admin who is not bound to a selector cannot be deleted")

// FirstAdmin is the name of the operator that EnsureAdmin makes.
const FirstAdmin = "admin"

var operatorName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)

// operatorKey is the key of an operator in the bucket, which takes fewer
// characters than a name may have.
func operatorKey(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

// CreateOperator makes an operator and returns the token, which is kept
// nowhere. It returns ErrExists or ErrInvalid.
func (r *Registry) CreateOperator(ctx context.Context, name string, role Role, selector Selector) (Operator, string, error) {
	token, hash := newToken()
	o, err := r.saveOperator(ctx, name, role, selector, hash, func() error {
		if _, taken := r.Operator(name); taken {
			return fmt.Errorf("operator %s %w", name, ErrExists)
		}
		return nil
	})
	if err != nil {
		return Operator{}, "", err
	}
	return o, token, nil
}

// DeleteOperator ends an operator's access, on every node. It returns
// ErrNotFound or ErrLastAdmin.
func (r *Registry) DeleteOperator(ctx context.Context, name string) error {
	msg := &nats.Msg{Header: nats.Header{"KV-Operation": []string{"DEL"}}}
	_, err := r.changeOperators(ctx, name, msg, func() error {
		o, ok := r.Operator(name)
		if !ok {
			return fmt.Errorf("operator %.80q: %w", name, ErrNotFound)
		}
		if o.fullAdmin() && r.fullAdmins() == 1 {
			return ErrLastAdmin
		}
		return nil
	})
	return err
}

// RefreshOperators waits until Operator and Operators answer what the registry
// holds, which another node may have changed a moment ago.
func (r *Registry) RefreshOperators(ctx context.Context) error {
	last, err := r.operatorsMirror.lastRevision(ctx)
	if err != nil {
		return err
	}
	return r.operatorsMirror.wait(ctx, last)
}

func (r *Registry) fullAdmins() int {
	n := 0
	for _, o := range r.Operators() {
		if o.fullAdmin() {
			n++
		}
	}
	return n
}

func (r *Registry) saveOperator(ctx context.Context, name string, role Role, selector Selector, hash tokenHash, allowed func() error) (Operator, error) {
	if !operatorName.MatchString(name) {
		return Operator{}, fmt.Errorf("%w: an operator's name is 1 to 64 letters, digits, '_', '.', '@' or '-'", ErrInvalid)
	}
	if _, ok := roleNames[role]; !ok {
		return Operator{}, fmt.Errorf("%w: a role is viewer, operator or admin", ErrInvalid)
	}
	o := Operator{Name: name, Role: role, Selector: selector, Created: time.Now().UTC()}
	value, err := encodeOperator(o, hash)
	if err != nil {
		return Operator{}, err
	}
	o.Revision, err = r.changeOperators(ctx, name, &nats.Msg{Data: value}, allowed)
	return o, err
}

// changeOperators writes to an operator's key on the condition that nothing
// in the whole bucket has changed since allowed looked at it: so two admins
// cannot delete each other at the same time and leave none.
func (r *Registry) changeOperators(ctx context.Context, name string, msg *nats.Msg, allowed func() error) (uint64, error) {
	m := r.operatorsMirror
	msg.Subject = "$KV." + operatorsBucket + "." + operatorKey(name)
	for range maxAttempts {
		seen := m.revision()
		if err := allowed(); err != nil {
			return 0, err
		}
		ack, err := r.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequence(seen))
		if err == nil {
			return ack.Sequence, m.wrote(ctx, ack.Sequence)
		}
		if !isMismatch(err) {
			return 0, fmt.Errorf("save operator %s: %w", name, err)
		}
		last, err := m.lastRevision(ctx)
		if err != nil {
			return 0, err
		}
		if err := m.wait(ctx, last); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("operator %s %w", name, ErrConflict)
}

// EnsureAdmin makes the first admin where there is no operator yet, and
// leaves the token in a file at path, mode 0600. It reports whether it has.
// The file comes first, so that a crash in between loses no token; where
// operators exist, nothing is made, even if the file is lost: RecoverAdmin is
// for that.
func (r *Registry) EnsureAdmin(ctx context.Context, path string) (bool, error) {
	if len(r.Operators()) > 0 {
		return false, nil
	}
	hash, made, err := firstToken(path)
	if err != nil {
		return false, fmt.Errorf("first admin token: %w", err)
	}
	_, err = r.saveOperator(ctx, FirstAdmin, RoleAdmin, Selector{}, hash, func() error {
		if len(r.Operators()) > 0 {
			return ErrExists
		}
		return nil
	})
	if errors.Is(err, ErrExists) { // another node was faster, with a token of its own
		if made {
			err = os.Remove(path)
		} else {
			err = nil
		}
		return false, err
	}
	return err == nil, err
}

// firstToken is the token of the file at path, which it makes if need be.
func firstToken(path string) (hash tokenHash, made bool, err error) {
	text, err := readSecretFile(path, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		token, hash := newToken()
		return hash, true, createSecretFile(path, []byte(token+"\n"))
	}
	if err != nil {
		return tokenHash{}, false, err
	}
	hash, err = hashToken(trimToken(text))
	if err != nil {
		return tokenHash{}, false, fmt.Errorf("%s: %w; delete the file to have a new one made", path, err)
	}
	return hash, false, nil
}

// RecoverAdmin makes one more admin, when every admin token is lost, and
// leaves its token at path, over a file that is there. Whoever may write to
// the hub's data folder may do that.
func (r *Registry) RecoverAdmin(ctx context.Context, path string) (Operator, error) {
	name := FirstAdmin + "-" + time.Now().UTC().Format("20060102-150405")
	o, token, err := r.CreateOperator(ctx, name, RoleAdmin, Selector{})
	if err != nil {
		return Operator{}, err
	}
	if err := replaceSecretFile(path, []byte(token+"\n")); err != nil {
		return Operator{}, errors.Join(fmt.Errorf("write %s: %w", path, err), r.DeleteOperator(ctx, name))
	}
	return o, nil
}
