package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func TestFlagErrorsAreInWords(t *testing.T) {
	p := newPeer(t)
	for line, want := range map[string]string{
		"device ls --limit many":           `--limit takes a whole number from 0 to 4294967295, not "many"`,
		"device ls --limit -1":             `not "-1"`,
		"status --request-timeout soon":    `--request-timeout takes a duration, as 500ms, 90s, 5m or 1h30m, not "soon"`,
		"device ls --online=perhaps":       `--online takes true or false, not "perhaps"`,
		"command send x --rate fast":       `--rate takes a number, as 0.5, not "fast"`,
		"command send -l a=b x --rate NaN": `--rate: NaN is no rate`,
		"command send -l a=b x --rate Inf": `--rate: +Inf is no rate`,
		"command send -l a=b x --rate=-1":  `--rate must not be below zero`,
		"command send x --max-devices 1x":  `--max-devices takes a whole number`,
	} {
		got := p.hubctl(strings.Fields(line)...).want(t, exitUsage).stderr
		wantContains(t, got, want)
		for _, foreign := range []string{"strconv", "time:", "parsing"} {
			if strings.Contains(got, foreign) {
				t.Errorf("%s: %s", line, got)
			}
		}
	}
}

func TestVersionFlag(t *testing.T) {
	wantContains(t, runWith(t, nil, "", "--version").want(t, exitOK).out, "hubctl version "+programVersion())
}

// On 80 columns it can be read who did what to what, and when.
func TestAuditListOnANarrowScreen(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC))
	rows := []auditRecord{
		{Time: at, Operator: "bootstrap-admin", Method: "DeviceService/SetDeviceEnabled", Subject: "greenhouse-north-17", Outcome: "ok", RemoteAddr: "192.0.2.77", Detail: "enabled=false"},
		{Time: at, Operator: "ann", Method: "CommandService/SendGroupCommand", Subject: "site=north", Outcome: "permission_denied", RemoteAddr: "2001:db8::1:2", Detail: "command=reboot id=0198c1d2-7a3b-7c4d-8e5f-0123456789ab existed=false"},
	}
	var b strings.Builder
	a := &app{env: func(string) string { return "UTC" }}
	hidden, err := output.WriteTable(&b, 80, a.auditView().table, rows)
	if err != nil || hidden != 1 { // FROM
		t.Fatalf("%d columns hidden, %v\n%s", hidden, err, &b)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	wantContains(t, b.String(), "2026-03-01 12:00:00", "SetDeviceEnabled", "green", "ok", "SendGroupCommand", "site=nor", "permiss", "command")
}

// Who is bound to a selector is shown own counts, and no zeros for what the
// hub does not tell.
func TestStatusOfABoundOperator(t *testing.T) {
	p := newPeer(t)
	always(p, rpc.HubServiceGetStatusProcedure, &operatorv1.GetStatusRequest{}, &operatorv1.GetStatusResponse{
		Ready: true, Node: "n1", Store: "sqlite", Devices: 4, DevicesOnline: 1, Connections: 1, RowsQuarantined: 3, Selector: "site=a"})
	out := p.hubctl("status").want(t, exitOK).out
	wantContains(t, out, "4, 1 online", "3 rows", "site=a")
	for _, absent := range []string{"acknowledged", "at most", "Buffer"} {
		if strings.Contains(out, absent) {
			t.Errorf("%q is shown to a bound operator:\n%s", absent, out)
		}
	}
	wantContains(t, p.hubctl("status", "-o", "csv").want(t, exitOK).out, "site=a")
}
