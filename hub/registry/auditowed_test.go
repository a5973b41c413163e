package registry_test

import (
	"fmt"
	"testing"

	"github.com/tetherline/tetherline/hub/registry"
)

// owe adds n records that nobody waits for.
func owe(t *testing.T, r *registry.Registry, from, n int) {
	t.Helper()
	for i := range n {
		if !r.OweAudit(registry.Record{Operator: "ann", Subject: fmt.Sprint(from + i), Outcome: "ok"}) {
			t.Fatalf("record %d is not taken", from+i)
		}
	}
}

// wantAudit wants n records, in order.
func wantAudit(t *testing.T, r *registry.Registry, n int) {
	t.Helper()
	records, _, err := r.ListAudit(testContext(t), registry.MaxAuditPage, 0)
	if err != nil || len(records) != n {
		t.Fatalf("%d records, %v; want %d", len(records), err, n)
	}
	for i, rec := range records {
		if want := fmt.Sprint(n - 1 - i); rec.Subject != want {
			t.Errorf("record %d is of %s, want %s", i, rec.Subject, want)
		}
	}
}

// Owed records are listed at once and in order, with those that are waited
// for, cost few writes, and are written when the registry closes.
func TestAuditOwed(t *testing.T) {
	node := startNode(t, t.TempDir())
	r := open(t, node.JetStream())
	owe(t, r, 0, 300)
	wantAudit(t, r, 300)
	owe(t, r, 300, 5)
	if err := r.Audit(testContext(t), registry.Record{Subject: "305"}); err != nil {
		t.Fatal(err)
	}
	owe(t, r, 306, 5)
	r.Close()
	if r.OweAudit(registry.Record{Subject: "closed"}) {
		t.Error("a closed registry takes a record")
	}
	stream, err := node.JetStream().Stream(testContext(t), "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got > 20 {
		t.Errorf("%d messages", got)
	}
	wantAudit(t, open(t, node.JetStream()), 311)
}

// Owed records are tried until they are written.
func TestAuditOwedIsTriedAgain(t *testing.T) {
	node := startNode(t, t.TempDir())
	r := open(t, node.JetStream())
	ctx := testContext(t)
	resize := func(bytes int32) {
		stream, err := node.JetStream().Stream(ctx, "AUDIT")
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgSize = bytes
		if _, err := node.JetStream().UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Audit(ctx, registry.Record{Subject: "0"}); err != nil {
		t.Fatal(err)
	}
	resize(1)
	owe(t, r, 1, 2)
	wantAudit(t, r, 1) // what is written can be read
	if err := r.Audit(ctx, registry.Record{Subject: "refused"}); err == nil {
		t.Error("a record that is not written is taken for written")
	}
	if r.OweAudit(registry.Record{Subject: "now"}) {
		t.Error("a record is owed to a log that cannot be written")
	}
	resize(-1)
	if err := r.Audit(ctx, registry.Record{Subject: "3"}); err != nil {
		t.Fatal(err)
	}
	wantAudit(t, r, 4)
	owe(t, r, 4, 2)
	wantAudit(t, r, 6)
}
