//go:build !unix

package main

import (
	"context"

	"github.com/tetherline/tetherline/hub"
)

// collectOnSignal does nothing where there is no such signal.
func collectOnSignal(context.Context, *hub.Hub) (end func()) { return func() {} }
