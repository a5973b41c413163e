package hub_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/hubtest"
)

func TestMain(m *testing.M) {
	hubtest.Main()
	goleak.VerifyTestMain(m)
}
