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
