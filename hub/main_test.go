package hub_test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/tetherline/tetherline/hub/hubtest"
)

func TestMain(m *testing.M) {
	hubtest.Main()
	crowdMain()
	roleMain()
	hostMain()
	// Most tests here wait: for kills, restarts, time limits. Two cores carry
	// some at once. -parallel on the command line has the last word.
	_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(status int) { removePrograms(); os.Exit(status) }),
		// toxiproxy leaves them behind when a connection breaks with data on its way.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
	)
}
