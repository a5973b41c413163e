package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// fieldPeer has a device of the fields "measurement.name" and no rows.
func fieldPeer(t *testing.T, asked *string, fields ...string) *peer {
	p := newPeer(t)
	answer(p, rpc.TelemetryServiceQueryProcedure, func(r *operatorv1.QueryRequest) (*operatorv1.QueryResponse, error) {
		*asked = r.Measurement
		return &operatorv1.QueryResponse{}, nil
	})
	res := &operatorv1.ListFieldsResponse{}
	for _, f := range fields {
		measurement, name, _ := strings.Cut(f, ".")
		res.Fields = append(res.Fields, &operatorv1.ListFieldsResponse_Field{Measurement: measurement, Name: name})
	}
	always(p, rpc.TelemetryServiceListFieldsProcedure, &operatorv1.ListFieldsRequest{}, res)
	return p
}

// Gear has the measurement of its kind, which nobody should have to name.
func TestQueryFindsTheMeasurement(t *testing.T) {
	var asked string
	for _, c := range []struct{ fields, line, want string }{
		{"telemetry.flow climate.flow", "query d", ""},
		{"telemetry.flow", "query d -f flow", ""},
		{"", "query d", ""},
		{"tasmota.POWER tasmota.Vcc", "query d", "tasmota"},
		{"tasmota.POWER tasmota.Vcc", "query d -f Vcc -o csv", "tasmota"},
		{"cpu.idle mem.free", "query d -f free", "mem"},
		{"cpu.idle mem.free", "query d -m cpu", "cpu"},
		{"cpu.idle mem.free", "plot d idle", "cpu"},
	} {
		asked = "nothing"
		fieldPeer(t, &asked, strings.Fields(c.fields)...).hubctl(append([]string{"telemetry"}, strings.Fields(c.line)...)...).want(t, exitOK)
		if asked != c.want {
			t.Errorf("%s of a device with %s asks for %q, want %q", c.line, c.fields, asked, c.want)
		}
	}
	for _, line := range []string{"query d", "query d -f free -f idle", "plot d x"} {
		got := fieldPeer(t, &asked, "cpu.idle", "mem.free").hubctl(append([]string{"telemetry"}, strings.Fields(line)...)...).want(t, exitUsage)
		wantContains(t, got.stderr, "cpu, mem", "--measurement")
	}
	wantContains(t, fieldPeer(t, &asked, "tasmota.POWER").hubctl("telemetry", "query", "d", "-f", "Vcc").want(t, exitNotFound).stderr, "no field Vcc in the measurement tasmota")
	// Gear that was stored otherwise before shows where its readings are now.
	for _, line := range []string{"query d", "plot d POWER"} {
		both := fieldPeer(t, &asked, "telemetry.POWER", "tasmota.POWER")
		wantContains(t, both.hubctl(append([]string{"telemetry"}, strings.Fields(line)...)...).want(t, exitOK).stderr, "readings of tasmota too")
	}
}

// latestPeer has a device that appears with the second look, a field with the
// third and another with the fourth.
func latestPeer(t *testing.T) (*peer, *atomic.Int32) {
	p := newPeer(t)
	var looks atomic.Int32
	answer(p, rpc.TelemetryServiceLatestProcedure, func(r *operatorv1.LatestRequest) (*operatorv1.LatestResponse, error) {
		n := looks.Add(1)
		if n < 2 {
			return nil, notFound(r.DeviceId)
		}
		res := &operatorv1.LatestResponse{}
		for i, name := range []string{"flow", "state"} {
			if int(n) >= 3+i {
				res.Items = append(res.Items, &operatorv1.LatestResponse_Item{Measurement: "m", Field: name, Value: double(1), Time: timestamppb.New(time.Unix(1772366400, 0))})
			}
		}
		return res, nil
	})
	return p, &looks
}

func TestLatestWaitsForReadings(t *testing.T) {
	p, looks := latestPeer(t)
	wantText(t, p.hubctl("telemetry", "latest", "d", "--wait", "1m", "-o", "csv").want(t, exitOK).out, "measurement,field,value,unit,time\nm,flow,1,,2026-03-01T12:00:00Z\n")
	looks.Store(0)
	wantText(t, p.hubctl("telemetry", "latest", "d", "state", "--wait", "1m", "-o", "csv").want(t, exitOK).out, "measurement,field,value,unit,time\nm,state,1,,2026-03-01T12:00:00Z\n")
	looks.Store(0)
	p.hubctl("telemetry", "latest", "d").want(t, exitNotFound)
	wantText(t, p.hubctl("telemetry", "latest", "d", "-o", "csv").want(t, exitOK).out, "measurement,field,value,unit,time\n")
	wantContains(t, p.hubctl("telemetry", "latest", "d", "flow", "state").want(t, exitNotFound).stderr, "d has no field state", "hubctl telemetry fields d")
	wantContains(t, p.hubctl("telemetry", "latest", "d", "nope", "--wait", "300ms").want(t, exitNotFound).stderr, "d has no field nope")
	p.hubctl("telemetry", "latest", "d", "--wait", "-1s").want(t, exitUsage)

	none := newPeer(t)
	always(none, rpc.TelemetryServiceLatestProcedure, &operatorv1.LatestRequest{}, &operatorv1.LatestResponse{})
	wantContains(t, none.hubctl("telemetry", "latest", "d", "--wait", "300ms").want(t, exitNotFound).stderr, "d has no readings yet")
}

// A hub that is being started is waited for; one that says no is not.
func TestStatusWaits(t *testing.T) {
	p := newPeer(t)
	var looks atomic.Int32
	answer(p, rpc.HubServiceGetStatusProcedure, func(*operatorv1.GetStatusRequest) (*operatorv1.GetStatusResponse, error) {
		return &operatorv1.GetStatusResponse{Ready: looks.Add(1) > 2}, nil
	})
	p.hubctl("status").want(t, exitError)
	looks.Store(0)
	wantContains(t, p.hubctl("status", "--wait", "1m").want(t, exitOK).out, "ready")
	env := p.env()
	env["TETHERLINE_HUB"] = "https://127.0.0.1:1"
	begin := time.Now()
	runWith(t, env, "", "status", "--wait", "300ms").want(t, exitUnreachable)
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("waited %v", took)
	}
	env = p.env()
	env["TETHERLINE_TOKEN"] = "wrong"
	looks.Store(0)
	runWith(t, env, "", "status", "--wait", "1h").want(t, exitUnauthorized)
}
