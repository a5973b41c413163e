package hub_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// troubles is what the store does to writes, and to how many.
var troubles = []struct {
	name   string
	fault  fault
	writes int
}{
	{"400 to batches", refuseBatches(http.StatusBadRequest), 3},
	{"422 to batches", refuseBatches(http.StatusUnprocessableEntity), 3},
	{"413 to batches", refuseBatches(http.StatusRequestEntityTooLarge), 3},
	{"500", fail(http.StatusInternalServerError), 3},
	{"500 after storing", late(fail(http.StatusInternalServerError)), 2},
	{"503", fail(http.StatusServiceUnavailable), 3},
	{"429 with Retry-After", wait(http.StatusTooManyRequests), 1},
	{"503 with Retry-After", wait(http.StatusServiceUnavailable), 1},
	{"no answer", hang, 2},
	{"no answer after storing", late(hang), 1},
	{"reset", reset, 3},
	{"reset after storing", late(reset), 2},
}

// Whatever the store answers, every row that it will take is stored once, and
// quarantine holds those alone that it has refused one by one.
func TestNoAnswerOfTheStoreCostsARow(t *testing.T) {
	t.Parallel()
	const devices = 10
	db := influxtest.Start(t)
	store := newFlakyStore(t, db)
	cfg := influxConfig(t, db)
	cfg.InfluxURL, cfg.InfluxTimeout = store.URL, time.Second
	cfg.LogLevel = "error"
	h := hubtest.Start(t, cfg)
	f := newFlock(t, h.Endpoint, devices, nil)
	odd := newGauge(t, h.Endpoint, "odd-one", nil)
	f.publish(t, 20*time.Millisecond)

	bad := 0
	refuse := func(measurement string, fields ...client.Field) {
		bad++
		if err := odd.Publish(t.Context(), client.Row{Measurement: measurement, Fields: append(fields, client.Bool("bad", true))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, trouble := range troubles {
		before := f.acked()
		store.inject(trouble.fault, trouble.writes)
		refuse(refusedBy400)
		refuse(refusedBy422)
		hubtest.Eventually(t, "the hub meets this answer: "+trouble.name, store.injected)
		f.awaitAcks(t, before) // devices notice nothing
		hubtest.Eventually(t, "rows are stored again after: "+trouble.name, func() bool { return storeIsWell(status(t, h.Endpoint)) })
		t.Logf("met %s", trouble.name)
	}
	refuse(failedBy500)
	hubtest.Eventually(t, "the row that always gets a 500 is in quarantine", func() bool { // others are stored meanwhile: so it is the row
		return status(t, h.Endpoint).RowsQuarantined >= uint64(bad)
	})
	refuse("fat", client.String("a", strings.Repeat("x", maxBody/2)), client.String("b", strings.Repeat("x", maxBody/2)))
	f.whileDown(t, h.Endpoint, store)

	rows := f.settle(t)
	odd.flush(t)
	f.wantStored(t, db)
	for _, row := range awaitQuarantine(t, h.Endpoint, bad) {
		words := map[string]string{refusedBy400: "the words of a 400", refusedBy422: "the words of a 422", failedBy500: "the words of a 500", "fat": "the words of a 413"}[row.Measurement]
		if row.DeviceId != odd.id || words == "" || !strings.Contains(row.Reason, words) {
			t.Errorf("in quarantine: %s of %s for %q", row.Measurement, row.DeviceId, row.Reason)
		}
	}
	early, tooLarge, requests := store.counts()
	if early > 0 {
		t.Errorf("%d writes came before the Retry-After of %v was over", early, retryAfter)
	}
	if tooLarge == 0 {
		t.Error("no write was over the store's bound: nothing shows that the hub halves them")
	}
	t.Logf("%d rows acknowledged and stored, %d refused and in quarantine, in %d writes, %d of them too large", rows, bad, requests, tooLarge)
}

// whileDown takes the store away and gives it back: operators see it, devices
// do not, and the node stays ready for them.
func (f *flock) whileDown(t testing.TB, h hubtest.Endpoint, store *flakyStore) {
	t.Helper()
	store.setDown(true)
	hubtest.Eventually(t, "the status shows the store's words", func() bool {
		s := status(t, h)
		for _, check := range s.Checks {
			if check.Name == "store" && !check.Ok && strings.Contains(check.Detail, "the disk is being changed") {
				return s.Ready
			}
		}
		return false
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.Roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	answer, err := client.Get(h.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %s while the store is away; the buffer stands in for it", answer.Status)
	}
	f.awaitAcks(t, f.acked())
	store.setDown(false)
	hubtest.Eventually(t, "the status shows that the store is back", func() bool { return storeIsWell(status(t, h)) })
}

func storeIsWell(s *operatorv1.GetStatusResponse) bool {
	for _, check := range s.Checks {
		if check.Name == "store" {
			return check.Ok
		}
	}
	return false
}
