package api

import (
	"errors"
	"testing"

	"github.com/tetherline/tetherline/hub/registry"
)

// However many calls wait, others may begin, to their own bound; each place
// is given back once.
func TestCallsAreBounded(t *testing.T) {
	var c calls
	c.init()
	begin := func() *call {
		one := callOf(t.Context())
		one.operator, one.cancel = registry.Operator{Name: "ann"}, func(error) {}
		if err := c.begin(one); err != nil {
			t.Fatal(err)
		}
		return one
	}
	var all []*call
	for range maxWaiting {
		one := begin()
		if err := c.wait(one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	for range maxCalls - 1 {
		all = append(all, begin())
	}
	last := begin()
	if err := c.begin(&call{operator: last.operator}); !errors.Is(err, errTooManyCalls) {
		t.Errorf("one more call: %v", err)
	}
	if err := c.wait(last); !errors.Is(err, errTooManyWaiting) {
		t.Errorf("one more that waits: %v", err)
	}
	if err := c.begin(&call{operator: registry.Operator{Name: "bob"}}); err != nil {
		t.Errorf("another operator: %v", err)
	}
	for _, one := range append(all, last) {
		c.done(one)
	}
	if len(c.waiting) != 0 || len(c.byName) != 1 {
		t.Errorf("left: %v, %d", c.waiting, len(c.byName))
	}
}
