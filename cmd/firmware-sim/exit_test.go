package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// Scripts and CI go by the exit status: only a proof in which each promise was
// tried and held is a success by itself.
func TestProveExitStatus(t *testing.T) {
	for _, tt := range []struct {
		outcome string
		allow   bool
		want    int
	}{
		{firmwaresim.OutcomeHeld, false, 0},
		{firmwaresim.OutcomeIncomplete, false, 6},
		{firmwaresim.OutcomeIncomplete, true, 0},
		{firmwaresim.OutcomeBroken, false, 1},
		{firmwaresim.OutcomeBroken, true, 1},
		{firmwaresim.OutcomeInterrupted, true, 130},
		{"", true, 1},
	} {
		got := 0
		if err := judged(firmwaresim.Verdict{Outcome: tt.outcome, Untried: []int{4}}, tt.allow); err != nil {
			got, _ = exitOf(t.Context(), errors.Join(nil, err))
		}
		if got != tt.want {
			t.Errorf("outcome %q, untried allowed: %v: exit status %d; want %d", tt.outcome, tt.allow, got, tt.want)
		}
	}
	if _, errs := said(t, 1, "prove", "--only", "hub-kill", "--without", "hub-kill"); !strings.Contains(errs, "--only and --without both name hub-kill") {
		t.Errorf("stderr: %s", errs)
	}
}

// An interrupt is called that, and not by what it broke off.
func TestInterruptedExitStatus(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	over := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		interrupt()
		<-over
	}))
	defer server.Close()
	defer close(over)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status := run(ctx, []string{"load", "--hub", server.URL, "--ca", ca, "--token", "t", "--devices", "1", "--for", "1s"}, &out, &errs)
	if said := errs.String(); status != 130 || said != "firmware-sim: interrupted\n" {
		t.Errorf("exit status %d, stderr %q", status, said)
	}
	if status, err := exitOf(t.Context(), fmt.Errorf("a call: %w", context.Canceled)); status != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("without an interrupt: exit status %d, %v", status, err)
	}
}
