package registry_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tetherline/tetherline/hub/registry"
)

func TestAuditIsListedNewestFirst(t *testing.T) {
	r := newRegistry(t)
	if records, next, err := r.ListAudit(testContext(t), 10, 0); err != nil || len(records) != 0 || next != 0 {
		t.Fatalf("empty log: %v, %d, %v", records, next, err)
	}
	const n = 25
	for i := range n {
		rec := registry.Record{Operator: "ann", Method: "M", Subject: fmt.Sprint(i), Outcome: "ok", RemoteAddr: "[::1]:9", Detail: "d"}
		if err := r.Audit(testContext(t), rec); err != nil {
			t.Fatal(err)
		}
	}
	want := n - 1
	for page, pages := uint64(0), 0; ; pages++ {
		records, next, err := r.ListAudit(testContext(t), 10, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if rec.Subject != fmt.Sprint(want) || rec.Operator != "ann" || time.Since(rec.Time) > time.Minute {
				t.Fatalf("record %+v, want subject %d", rec, want)
			}
			want--
		}
		if page = next; page == 0 {
			if pages != 2 {
				t.Errorf("%d pages after the first, want 2", pages)
			}
			break
		}
	}
	if want != -1 {
		t.Errorf("records up to %d are missing", want)
	}
	for _, limit := range []int{0, -1, 1001} {
		if _, _, err := r.ListAudit(testContext(t), limit, 0); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("limit %d: %v, want ErrInvalid", limit, err)
		}
	}
	if records, next, err := r.ListAudit(testContext(t), 10, 1<<63); err != nil || len(records) != 10 || next == 0 {
		t.Errorf("page past the end: %d records, %d, %v", len(records), next, err)
	}
}
