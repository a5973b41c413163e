package registry

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Role is what an operator may do. A higher role may do all that a lower one
// may. The zero Role may do nothing.
type Role uint8

// The roles.
const (
	RoleViewer   Role = iota + 1 // reads
	RoleOperator                 // changes devices, sends commands
	RoleAdmin                    // manages operators, deletes readings
)

var roleNames = map[Role]string{RoleViewer: "viewer", RoleOperator: "operator", RoleAdmin: "admin"}

func (r Role) String() string {
	if name, ok := roleNames[r]; ok {
		return name
	}
	return "none"
}

// ParseRole is the reverse of Role.String. Its error wraps ErrInvalid.
func ParseRole(s string) (Role, error) {
	for role, name := range roleNames {
		if name == s {
			return role, nil
		}
	}
	return 0, fmt.Errorf("%w: a role is viewer, operator or admin, not %.40q", ErrInvalid, s)
}

// Operator is somebody who may use the operator API. It holds no token.
type Operator struct {
	Name    string
	Role    Role
	Created time.Time
	// Selector binds the operator to the devices that match; the zero
	// Selector is all devices.
	Selector Selector
	// Revision tells this operator from another of the same name later.
	Revision uint64
}

// ID tells this operator from another of the same name, earlier or later, and
// stays the same as long as there is this one.
func (o *Operator) ID() string { return strconv.FormatInt(o.Created.UnixNano(), 36) }

// Unbound reports whether the operator reaches all devices.
func (o *Operator) Unbound() bool { return o.Selector.Empty() }

// fullAdmin may manage operators: one of them must always remain.
func (o *Operator) fullAdmin() bool { return o.Role == RoleAdmin && o.Unbound() }

// operatorRecord is the stored form.
type operatorRecord struct {
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	Selector  string    `json:"selector,omitempty"`
	TokenHash string    `json:"token_sha256"`
	Created   time.Time `json:"created"`
}

func encodeOperator(o Operator, hash tokenHash) ([]byte, error) {
	b, err := json.Marshal(operatorRecord{
		Name: o.Name, Role: o.Role.String(), Selector: o.Selector.String(),
		TokenHash: hex.EncodeToString(hash[:]), Created: o.Created,
	})
	if err != nil {
		return nil, fmt.Errorf("encode operator %s: %w", o.Name, err)
	}
	return b, nil
}

func decodeOperator(value []byte, revision uint64) (*knownOperator, error) {
	var rec operatorRecord
	if err := json.Unmarshal(value, &rec); err != nil {
		return nil, err
	}
	role, err := ParseRole(rec.Role)
	if err != nil {
		return nil, err
	}
	selector, err := ParseSelector(rec.Selector)
	if err != nil {
		return nil, err
	}
	hash, err := hex.DecodeString(rec.TokenHash)
	if err != nil || len(hash) != len(tokenHash{}) {
		return nil, fmt.Errorf("operator %s: bad token hash", rec.Name)
	}
	return &knownOperator{
		Operator: Operator{Name: rec.Name, Role: role, Selector: selector, Created: rec.Created, Revision: revision},
		hash:     tokenHash(hash),
	}, nil
}

type knownOperator struct {
	Operator
	hash tokenHash
}

// operators is the copy in memory of the operators' bucket.
type operators struct {
	logger *slog.Logger

	mu       sync.RWMutex
	byKey    map[string]*knownOperator // by key of the bucket
	byHash   map[tokenHash]*knownOperator
	watchers []*func(old, new *Operator)
}

func (o *operators) init(logger *slog.Logger) {
	o.logger = logger
	o.byKey = make(map[string]*knownOperator)
	o.byHash = make(map[tokenHash]*knownOperator)
}

// apply implements mirrored. An operator that cannot be read is one that may
// do nothing.
func (o *operators) apply(key string, value []byte, revision uint64) {
	var next *knownOperator
	if value != nil {
		var err error
		if next, err = decodeOperator(value, revision); err != nil || operatorKey(next.Name) != key {
			o.logger.Error("unreadable operator in the registry; locked out", "key", key, "revision", revision, "error", err)
			next = nil
		}
	}
	previous, listeners := o.replace(key, next)
	if previous == nil && next == nil || previous != nil && next != nil && previous.Revision == next.Revision {
		return
	}
	var old, now *Operator
	if previous != nil {
		old = &previous.Operator
	}
	if next != nil {
		now = &next.Operator
	}
	for _, f := range listeners {
		(*f)(old, now)
	}
}

func (o *operators) replace(key string, next *knownOperator) (*knownOperator, []*func(old, new *Operator)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	previous := o.byKey[key]
	if previous != nil {
		delete(o.byHash, previous.hash)
		delete(o.byKey, key)
	}
	if next != nil {
		o.byKey[key] = next
		o.byHash[next.hash] = next
	}
	return previous, o.watchers
}

func (o *operators) loaded() {}

func (o *operators) keys() []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	keys := make([]string, 0, len(o.byKey))
	for key := range o.byKey {
		keys = append(keys, key)
	}
	return keys
}

// Authenticate finds the operator that a token belongs to. It looks up the
// token's hash, so its time tells nothing of any other token.
func (r *Registry) Authenticate(token string) (Operator, bool) {
	hash, err := hashToken(token)
	if err != nil {
		return Operator{}, false
	}
	r.operators.mu.RLock()
	defer r.operators.mu.RUnlock()
	known := r.operators.byHash[hash]
	if known == nil {
		return Operator{}, false
	}
	return known.Operator, true
}

// Operator finds an operator by name.
func (r *Registry) Operator(name string) (Operator, bool) {
	r.operators.mu.RLock()
	defer r.operators.mu.RUnlock()
	known := r.operators.byKey[operatorKey(name)]
	if known == nil {
		return Operator{}, false
	}
	return known.Operator, true
}

// Operators are all operators, by name.
func (r *Registry) Operators() []Operator {
	r.operators.mu.RLock()
	defer r.operators.mu.RUnlock()
	all := make([]Operator, 0, len(r.operators.byKey))
	for _, known := range r.operators.byKey {
		all = append(all, known.Operator)
	}
	slices.SortFunc(all, func(a, b Operator) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// OnOperatorChange is OnChange for operators.
func (r *Registry) OnOperatorChange(f func(old, new *Operator)) (cancel func()) {
	o, entry := &r.operators, &f
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers = append(o.watchers[:len(o.watchers):len(o.watchers)], entry)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.watchers = slices.DeleteFunc(slices.Clone(o.watchers), func(w *func(old, new *Operator)) bool { return w == entry })
	}
}
