package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// Each method of the operator API has a command that calls it, and each of
// these commands works in all three formats.
func TestEveryMethodOfTheAPIHasACommand(t *testing.T) {
	p := newPeer(t)
	scriptEverything(p)
	fleet := write(t, filepath.Join(t.TempDir(), "fleet.csv"), "id\npump-2\n")
	for _, line := range []string{
		"device create pump-1", "device ls", "device show pump-1", "device label pump-1 a=b", "device enable pump-1",
		"device rotate pump-1", "device rm pump-1 --yes", "device import " + fleet, "device watch --for 100ms",
		"telemetry latest pump-1", "telemetry query pump-1", "telemetry fields pump-1", "telemetry count pump-1", "telemetry watch --for 100ms",
		"command send pump-1 go", "command send go --selector a=b", "command show c1", "command why c1", "command ls", "command cancel c1",
		"command watch c1", "command group show g1", "command group ls", "command group cancel g1",
		"quarantine ls", "quarantine show 1", "quarantine replay 1", "quarantine drop 1 --yes",
		"operator create alice", "operator ls", "operator rm alice --yes", "operator whoami", "audit ls", "status",
		"bridge ls", "bridge ls barn", "bridge gear barn", "bridge allow barn plugs kitchen", "bridge sample barn --for 1s",
	} {
		for _, format := range []string{"table", "json", "csv"} {
			p.hubctl(append(strings.Fields(line), "-o", format)...).want(t, exitOK)
		}
	}
	// On a loaded machine --for may be over before the call.
	for line, procedure := range map[string]string{
		"device watch": rpc.DeviceServiceWatchPresenceProcedure, "telemetry watch": rpc.TelemetryServiceWatchRowsProcedure,
		"bridge sample barn": rpc.BridgeServiceSampleBrokerProcedure,
	} {
		for long := time.Second; !slices.Contains(p.called(), procedure) && long < time.Minute; long *= 2 {
			p.hubctl(append(strings.Fields(line), "--for", long.String())...).want(t, exitOK)
		}
	}
	services := operatorv1.File_operator_v1_operator_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			procedure := "/" + string(services.Get(i).FullName()) + "/" + string(methods.Get(j).Name())
			if !slices.Contains(p.called(), procedure) {
				t.Errorf("no command calls %s", procedure)
			}
		}
	}
}

func scriptEverything(p *peer) {
	device := &operatorv1.Device{Id: "pump-1", Enabled: true}
	cmd := &operatorv1.Command{Id: "c1", DeviceId: "pump-1", State: operatorv1.CommandState_COMMAND_STATE_SUCCEEDED}
	g := &operatorv1.Group{Id: "g1", State: "DONE"}
	row := &operatorv1.QuarantinedRow{Id: 1}
	who := &operatorv1.Operator{Name: "alice", Role: operatorv1.Role_ROLE_ADMIN}
	always(p, rpc.DeviceServiceCreateDeviceProcedure, &operatorv1.CreateDeviceRequest{}, &operatorv1.CreateDeviceResponse{Device: device})
	always(p, rpc.DeviceServiceCreateDevicesProcedure, &operatorv1.CreateDevicesRequest{}, &operatorv1.CreateDevicesResponse{
		Outcomes: []*operatorv1.CreateDevicesResponse_Outcome{{Id: "pump-2", Credential: "tl1.pump-2.1.s"}}})
	answer(p, rpc.DeviceServiceGetDeviceProcedure, func(r *operatorv1.GetDeviceRequest) (*operatorv1.GetDeviceResponse, error) {
		if r.Id != "pump-1" {
			return nil, notFound(r.Id)
		}
		return &operatorv1.GetDeviceResponse{Device: device}, nil
	})
	always(p, rpc.DeviceServiceListDevicesProcedure, &operatorv1.ListDevicesRequest{}, &operatorv1.ListDevicesResponse{Devices: []*operatorv1.Device{device}, Total: 1})
	always(p, rpc.DeviceServiceLabelDeviceProcedure, &operatorv1.LabelDeviceRequest{}, &operatorv1.LabelDeviceResponse{Device: device})
	always(p, rpc.DeviceServiceSetDeviceEnabledProcedure, &operatorv1.SetDeviceEnabledRequest{}, &operatorv1.SetDeviceEnabledResponse{Device: device})
	always(p, rpc.DeviceServiceRotateDeviceProcedure, &operatorv1.RotateDeviceRequest{}, &operatorv1.RotateDeviceResponse{Device: device})
	always(p, rpc.DeviceServiceDeleteDeviceProcedure, &operatorv1.DeleteDeviceRequest{}, &operatorv1.DeleteDeviceResponse{})
	streams(p, rpc.DeviceServiceWatchPresenceProcedure, func(ctx context.Context, _ *operatorv1.WatchPresenceRequest, send func(*operatorv1.WatchPresenceResponse)) error {
		send(&operatorv1.WatchPresenceResponse{DeviceId: "pump-1", Presence: &operatorv1.Presence{Online: true}})
		send(&operatorv1.WatchPresenceResponse{Synced: true})
		<-ctx.Done()
		return nil
	})
	always(p, rpc.TelemetryServiceLatestProcedure, &operatorv1.LatestRequest{}, &operatorv1.LatestResponse{})
	always(p, rpc.TelemetryServiceQueryProcedure, &operatorv1.QueryRequest{}, &operatorv1.QueryResponse{})
	always(p, rpc.TelemetryServiceListFieldsProcedure, &operatorv1.ListFieldsRequest{}, &operatorv1.ListFieldsResponse{
		Fields: []*operatorv1.ListFieldsResponse_Field{{Measurement: "telemetry", Name: "x"}}})
	always(p, rpc.TelemetryServiceCountProcedure, &operatorv1.CountRequest{}, &operatorv1.CountResponse{Rows: 3})
	streams(p, rpc.TelemetryServiceWatchRowsProcedure, func(ctx context.Context, _ *operatorv1.WatchRowsRequest, send func(*operatorv1.WatchRowsResponse)) error {
		send(&operatorv1.WatchRowsResponse{Rows: []*operatorv1.WatchRowsResponse_Row{{DeviceId: "pump-1", Time: timestamppb.Now(), Values: map[string]*operatorv1.Value{"x": double(1)}}}})
		<-ctx.Done()
		return nil
	})
	always(p, rpc.CommandServiceSendCommandProcedure, &operatorv1.SendCommandRequest{}, &operatorv1.SendCommandResponse{Command: cmd})
	always(p, rpc.CommandServiceSendGroupCommandProcedure, &operatorv1.SendGroupCommandRequest{}, &operatorv1.SendGroupCommandResponse{Group: g})
	always(p, rpc.CommandServiceGetCommandProcedure, &operatorv1.GetCommandRequest{}, &operatorv1.GetCommandResponse{Command: cmd})
	always(p, rpc.CommandServiceListCommandsProcedure, &operatorv1.ListCommandsRequest{}, &operatorv1.ListCommandsResponse{Commands: []*operatorv1.Command{cmd}})
	always(p, rpc.CommandServiceCancelCommandProcedure, &operatorv1.CancelCommandRequest{}, &operatorv1.CancelCommandResponse{Command: cmd})
	streams(p, rpc.CommandServiceWatchCommandsProcedure, func(_ context.Context, _ *operatorv1.WatchCommandsRequest, send func(*operatorv1.WatchCommandsResponse)) error {
		send(&operatorv1.WatchCommandsResponse{Command: cmd})
		return nil
	})
	always(p, rpc.CommandServiceGetGroupProcedure, &operatorv1.GetGroupRequest{}, &operatorv1.GetGroupResponse{Group: g})
	always(p, rpc.CommandServiceListGroupsProcedure, &operatorv1.ListGroupsRequest{}, &operatorv1.ListGroupsResponse{Groups: []*operatorv1.Group{g}})
	always(p, rpc.CommandServiceCancelGroupProcedure, &operatorv1.CancelGroupRequest{}, &operatorv1.CancelGroupResponse{Group: g})
	always(p, rpc.QuarantineServiceListQuarantineProcedure, &operatorv1.ListQuarantineRequest{}, &operatorv1.ListQuarantineResponse{Rows: []*operatorv1.QuarantinedRow{row}})
	always(p, rpc.QuarantineServiceGetQuarantinedProcedure, &operatorv1.GetQuarantinedRequest{}, &operatorv1.GetQuarantinedResponse{Row: row})
	always(p, rpc.QuarantineServiceReplayQuarantineProcedure, &operatorv1.ReplayQuarantineRequest{}, &operatorv1.ReplayQuarantineResponse{Replayed: 1})
	always(p, rpc.QuarantineServiceDropQuarantineProcedure, &operatorv1.DropQuarantineRequest{}, &operatorv1.DropQuarantineResponse{Dropped: 1})
	always(p, rpc.OperatorServiceCreateOperatorProcedure, &operatorv1.CreateOperatorRequest{}, &operatorv1.CreateOperatorResponse{Operator: who, Token: "t"})
	always(p, rpc.OperatorServiceListOperatorsProcedure, &operatorv1.ListOperatorsRequest{}, &operatorv1.ListOperatorsResponse{Operators: []*operatorv1.Operator{who}})
	always(p, rpc.OperatorServiceDeleteOperatorProcedure, &operatorv1.DeleteOperatorRequest{}, &operatorv1.DeleteOperatorResponse{})
	always(p, rpc.OperatorServiceWhoAmIProcedure, &operatorv1.WhoAmIRequest{}, &operatorv1.WhoAmIResponse{Operator: who})
	always(p, rpc.OperatorServiceListAuditProcedure, &operatorv1.ListAuditRequest{}, &operatorv1.ListAuditResponse{})
	gear := &operatorv1.Gear{Broker: "barn", Profile: "plugs", Name: "kitchen"}
	always(p, rpc.BridgeServiceListBrokersProcedure, &operatorv1.ListBrokersRequest{}, &operatorv1.ListBrokersResponse{Brokers: []*operatorv1.Broker{{Name: "barn"}}})
	always(p, rpc.BridgeServiceListGearProcedure, &operatorv1.ListGearRequest{}, &operatorv1.ListGearResponse{Gear: []*operatorv1.SeenGear{{Gear: gear}}})
	always(p, rpc.BridgeServiceAllowGearProcedure, &operatorv1.AllowGearRequest{}, &operatorv1.AllowGearResponse{Device: &operatorv1.Device{Id: "kitchen", Gear: gear}})
	streams(p, rpc.BridgeServiceSampleBrokerProcedure, func(_ context.Context, _ *operatorv1.SampleBrokerRequest, send func(*operatorv1.SampleBrokerResponse)) error {
		send(&operatorv1.SampleBrokerResponse{Messages: 1, Done: true, Gear: []*operatorv1.SampledGear{{Name: "kitchen"}}, ConfigYaml: "brokers: []\n"})
		return nil
	})
	always(p, rpc.HubServiceGetStatusProcedure, &operatorv1.GetStatusRequest{}, &operatorv1.GetStatusResponse{Ready: true})
}

func double(f float64) *operatorv1.Value {
	return &operatorv1.Value{Value: &operatorv1.Value_DoubleValue{DoubleValue: f}}
}

// A hubctl that holds a token and a hub's data folder needs nothing else.
func TestDataFolderGivesAddressTokenAndCA(t *testing.T) {
	p := newPeer(t)
	scriptEverything(p)
	dir := t.TempDir()
	ca, err := os.ReadFile(p.ca)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.pem"), string(ca))
	write(t, filepath.Join(dir, "admin.token"), peerToken+"\n")
	env := map[string]string{"TETHERLINE_TOKEN": "of another hub", "XDG_CONFIG_HOME": t.TempDir()}
	runWith(t, env, "", "--data", dir, "--hub", p.server.URL, "status").want(t, exitOK)

	write(t, filepath.Join(dir, "operator.url"), p.server.URL+"\n")
	env["TETHERLINE_HUB"] = "https://127.0.0.1:1" // of another hub: it must not get the token
	runWith(t, env, "", "--data", dir, "status").want(t, exitOK)
	wantContains(t, runWith(t, env, "", "--data", dir, "--hub", "https://127.0.0.1:2", "status").want(t, exitUnreachable).stderr, "127.0.0.1:2")
	write(t, filepath.Join(dir, "operator.url"), "file:///etc/passwd\n")
	runWith(t, env, "", "--data", dir, "status").want(t, exitUsage)
}
