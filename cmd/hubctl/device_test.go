package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

func notFound(id string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("device %q not found", id))
}

func TestDeviceListFollowsPagesInEachFormat(t *testing.T) {
	p := newPeer(t)
	since := &timestamppb.Timestamp{Seconds: 1772366400} // 2026-03-01T12:00:00Z
	answer(p, rpc.DeviceServiceListDevicesProcedure, func(r *operatorv1.ListDevicesRequest) (*operatorv1.ListDevicesResponse, error) {
		if r.Selector != "site=north" {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("selector lost"))
		}
		if r.PageToken == "" {
			return &operatorv1.ListDevicesResponse{NextPageToken: "2", Total: 2, Devices: []*operatorv1.Device{
				{Id: "a-1", Enabled: true, Kind: "device", Labels: map[string]string{"site": "north", "b": "x"}}}}, nil
		}
		return &operatorv1.ListDevicesResponse{Total: 2, Devices: []*operatorv1.Device{
			{Id: "b-2", Kind: "mqtt", Note: "say \"hi\", twice", Presence: &operatorv1.Presence{Since: since, Reason: "\x1b[2Jcleared\nscreen"}}}}, nil
	})
	table := p.hubctl("device", "ls", "-l", "site=north").want(t, exitOK)
	lines := strings.Split(table.out, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "a-1  never seen") || !strings.HasPrefix(lines[2], "b-2  disabled") {
		t.Errorf("table:\n%s", table.out)
	}
	wantContains(t, lines[1], "b=x,site=north")
	if strings.ContainsRune(table.out, 0x1b) || !strings.Contains(table.out, `\x1b[2Jcleared\nscreen`) {
		t.Errorf("escapes reach the screen: %q", table.out)
	}
	wantText(t, p.hubctl("device", "ls", "-l", "site=north", "-o", "csv").want(t, exitOK).out,
		"id,kind,enabled,online,since,last_seen,reason,remote_addr,firmware,node,labels,note,generation,allow_unbound,dropped_rows,created,broker,profile,gear\n"+
			"a-1,device,true,false,,,,,,,b=x;site=north,,0,false,0,,,,\n"+
			"b-2,mqtt,false,false,2026-03-01T12:00:00Z,,\"\x1b[2Jcleared\nscreen\",,,,,\"say \"\"hi\"\", twice\",0,false,0,,,,\n")
	var list []map[string]any
	if err := json.Unmarshal([]byte(p.hubctl("device", "ls", "-l", "site=north", "-o", "json").want(t, exitOK).out), &list); err != nil || len(list) != 2 {
		t.Fatalf("json: %v, %d devices", err, len(list))
	}
	if list[0]["enabled"] != true || list[0]["allow_unbound"] != false || list[1]["presence"].(map[string]any)["reason"] != "\x1b[2Jcleared\nscreen" {
		t.Errorf("json: %v", list)
	}
	if got := p.hubctl("device", "ls", "-l", "site=north", "--limit", "1").want(t, exitOK); !strings.Contains(got.stderr, "1 of 2 devices") {
		t.Errorf("stderr: %s", got.stderr)
	}
}

func TestDeviceCreateWritesAFileForItsOwnerOnly(t *testing.T) {
	p := newPeer(t)
	made := 0
	answer(p, rpc.DeviceServiceCreateDeviceProcedure, func(r *operatorv1.CreateDeviceRequest) (*operatorv1.CreateDeviceResponse, error) {
		if r.Device.Id == "taken" {
			return nil, connect.NewError(connect.CodeAlreadyExists, errors.New("device taken exists"))
		}
		made++
		return &operatorv1.CreateDeviceResponse{Device: &operatorv1.Device{Id: r.Device.Id, Labels: r.Device.Labels, AllowUnbound: r.Device.AllowUnbound},
			Credential: "tl1.pump-1.1.c2VjcmV0", HubUrl: "wss://hub:8443/v1/device", CaPem: "PEM\n"}, nil
	})
	path := filepath.Join(t.TempDir(), "pump-1.json")
	got := p.hubctl("device", "create", "pump-1", "--label", "site=north", "--allow-unbound", "--out", path).want(t, exitOK)
	if strings.Contains(got.out+got.stderr, "c2VjcmV0") {
		t.Error("the credential is shown although it has a file")
	}
	wantText(t, read(t, path), `{
  "hub_url": "wss://hub:8443/v1/device",
  "device_id": "pump-1",
  "credential": "tl1.pump-1.1.c2VjcmV0",
  "ca_pem": "PEM\n"
}
`)
	wantMode(t, path, 0o600)

	p.hubctl("device", "create", "pump-1", "--out", path).want(t, exitError)
	if made != 1 {
		t.Errorf("a device was made although its file exists: its credential is lost")
	}
	p.hubctl("device", "create", "pump-1", "--out", path, "--force").want(t, exitOK)
	wantMode(t, path, 0o600)

	refused := filepath.Join(t.TempDir(), "taken.json")
	wantContains(t, p.hubctl("device", "create", "taken", "--out", refused).want(t, exitError).stderr, "rotate")
	if _, err := os.Stat(refused); err == nil {
		t.Error("a refused device left its file behind")
	}
	p.hubctl("device", "create", "taken", "--out", path, "--force").want(t, exitError)
	wantContains(t, read(t, path), "c2VjcmV0") // still the one before
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	once := p.hubctl("device", "create", "pump-1").want(t, exitOK)
	wantContains(t, once.out, "tl1.pump-1.1.c2VjcmV0")
	piped := p.hubctl("device", "create", "pump-1", "--out", "-").want(t, exitOK)
	wantContains(t, piped.out, `"credential": "tl1.pump-1.1.c2VjcmV0"`)
}

func TestDeviceLabelTellsSetFromRemove(t *testing.T) {
	p := newPeer(t)
	answer(p, rpc.DeviceServiceLabelDeviceProcedure, func(r *operatorv1.LabelDeviceRequest) (*operatorv1.LabelDeviceResponse, error) {
		if r.Set["site"] != "a=b-" || len(r.Remove) != 1 || r.Remove[0] != "spare" {
			t.Errorf("set %v, remove %v", r.Set, r.Remove)
		}
		return &operatorv1.LabelDeviceResponse{Device: &operatorv1.Device{Id: r.Id, Labels: r.Set}}, nil
	})
	wantText(t, p.hubctl("device", "label", "pump-1", "site=a=b-", "spare-").want(t, exitOK).out, "device pump-1: site=a=b-\n")
	p.hubctl("device", "label", "pump-1", "x=1", "x-").want(t, exitUsage)
	p.hubctl("device", "label", "pump-1", "x").want(t, exitUsage)
}

func TestRemovalNeedsYesWithoutATerminal(t *testing.T) {
	p := newPeer(t)
	for _, args := range []string{"device rm pump-1", "operator rm alice", "quarantine drop --all"} {
		wantContains(t, p.hubctl(strings.Fields(args)...).want(t, exitUsage).stderr, "--yes")
	}
	if len(p.called()) > 0 {
		t.Errorf("called %v", p.called())
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
	}
}
