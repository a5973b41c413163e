package hub_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/hubtest"
)

func TestMain(m *testing.M) {
	hubtest.Main()
	crowdMain()
	roleMain()
	hostMain()
	goleak.VerifyTestMain(m,
		// toxiproxy leaves them behind when a connection breaks with data on its way.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
	)
}
