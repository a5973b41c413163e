package api

import (
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

// Rule is a row of the access table.
type Rule struct {
	Role    registry.Role
	Unbound bool
	Audited bool
	Timeout time.Duration
}

// AccessTable is the table of access.go.
func AccessTable() map[string]Rule {
	out := make(map[string]Rule, len(accessTable))
	for path, a := range accessTable {
		out[path] = Rule{a.role, a.unbound, a.audited, a.timeout}
	}
	return out
}

// SetPatience sets how long a caller has to take in one message. It goes
// before the first call.
func (s *Server) SetPatience(d time.Duration) { s.patience = d }

// SetMaxWaiting sets how many calls of an operator may wait. It goes before
// the first call.
func (s *Server) SetMaxWaiting(n int) { s.calls.most = n }

// BoundID is the id that stands for a key of an operator who is bound.
func BoundID(o registry.Operator, key string) string { return boundID(&o, key) }

// Calls is how many calls of an operator are under way.
func (s *Server) Calls(name string) int { return len(s.calls.of(name)) }

// MendedAudit waits until the audit log is complete.
func (s *Server) MendedAudit() { s.mending.Wait() }
