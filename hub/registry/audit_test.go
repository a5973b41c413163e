package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// Records that are begun at the same time are written together, and listed
// one by one in the order in which they were begun.
func TestAuditTogether(t *testing.T) {
	node := startNode(t, t.TempDir())
	r := open(t, node.JetStream())
	const n = 2000
	long := strings.Repeat("x", 500) // so that a message is full before it has all
	waits := make([]func(context.Context) error, n)
	for i := range n {
		waits[i] = r.BeginAudit(registry.Record{Operator: "ann", Subject: fmt.Sprint(i), Outcome: "ok", Detail: long})
	}
	for _, wait := range waits {
		if err := wait(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := node.JetStream().Stream(testContext(t), "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got > n/10 {
		t.Errorf("%d messages for %d records", got, n)
	}
	for _, size := range []int{37, 1000} {
		want := n - 1
		for page := uint64(0); ; {
			records, next, err := r.ListAudit(testContext(t), size, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range records {
				if rec.Subject != fmt.Sprint(want) {
					t.Fatalf("pages of %d: record %s, want %d", size, rec.Subject, want)
				}
				want--
			}
			if page = next; page == 0 {
				break
			}
			if len(records) != size {
				t.Errorf("a page of %d, want %d", len(records), size)
			}
		}
		if want != -1 {
			t.Errorf("pages of %d: records up to %d are missing", size, want)
		}
	}
}

// A record is not taken for written when the connection is lost, or the
// registry closed.
func TestAuditThatIsNotWritten(t *testing.T) {
	node := startNode(t, t.TempDir())
	r := open(t, node.JetStream())
	if err := r.Audit(testContext(t), registry.Record{Subject: "before"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := r.Audit(ctx, registry.Record{Subject: "canceled"}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := r.Audit(testContext(t), registry.Record{Subject: "after"}); err != nil {
		t.Fatal(err)
	}
	node.Conn().Close()
	if err := r.Audit(testContext(t), registry.Record{Subject: "lost"}); err == nil {
		t.Error("a record was written without a connection")
	}
	r.Close()
	if err := r.Audit(testContext(t), registry.Record{Subject: "closed"}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}
