package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	rpc "github.com/tetherline/tetherline/proto/operator/v1/operatorv1connect"
)

// importPeer keeps the devices it makes; refuse names those that it will not
// make, and after a number of calls the rest is unavailable.
type importPeer struct {
	*peer
	mu     sync.Mutex
	made   map[string]*operatorv1.NewDevice
	refuse map[string]bool
	sizes  []int
	calls  int // allowed; below zero: any
}

func newImportPeer(t *testing.T) *importPeer {
	p := &importPeer{peer: newPeer(t), made: map[string]*operatorv1.NewDevice{}, refuse: map[string]bool{}, calls: -1}
	answer(p.peer, rpc.DeviceServiceGetDeviceProcedure, func(r *operatorv1.GetDeviceRequest) (*operatorv1.GetDeviceResponse, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.made[r.Id] == nil {
			return nil, notFound(r.Id)
		}
		return &operatorv1.GetDeviceResponse{Device: &operatorv1.Device{Id: r.Id}}, nil
	})
	answer(p.peer, rpc.DeviceServiceListDevicesProcedure, func(*operatorv1.ListDevicesRequest) (*operatorv1.ListDevicesResponse, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		res := &operatorv1.ListDevicesResponse{}
		for id := range p.made {
			res.Devices = append(res.Devices, &operatorv1.Device{Id: id})
		}
		return res, nil
	})
	answer(p.peer, rpc.DeviceServiceCreateDevicesProcedure, p.create)
	return p
}

func (p *importPeer) create(r *operatorv1.CreateDevicesRequest) (*operatorv1.CreateDevicesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == 0 {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("gone"))
	}
	p.calls--
	p.sizes = append(p.sizes, len(r.Devices))
	res := &operatorv1.CreateDevicesResponse{HubUrl: "wss://hub/v1/device", CaPem: "PEM"}
	for _, d := range r.Devices {
		o := &operatorv1.CreateDevicesResponse_Outcome{Id: d.Id}
		if p.refuse[d.Id] {
			o.Error = "not this one"
		} else {
			o.Credential = "tl1." + d.Id + ".1.secret"
			p.made[d.Id] = d
		}
		res.Outcomes = append(res.Outcomes, o)
	}
	return res, nil
}

func TestImportResumesAndReportsPartialFailure(t *testing.T) {
	p := newImportPeer(t)
	dir := filepath.Join(t.TempDir(), "credentials")
	var csv strings.Builder
	csv.WriteString("id,note,label:site\n")
	for i := range 2300 {
		fmt.Fprintf(&csv, "dev-%04d,\"n, %d\",north\n", i, i)
	}
	file := write(t, filepath.Join(t.TempDir(), "fleet.csv"), csv.String())

	p.refuse["dev-0007"] = true
	p.calls = 1
	first := p.hubctl("device", "import", file, "--out-dir", dir).want(t, exitUnreachable)
	wantContains(t, first.stderr, "999 created", "1 failed", "1000 unknown")

	p.calls = -1
	second := p.hubctl("device", "import", file, "--out-dir", dir).want(t, exitPartial)
	wantContains(t, second.stderr, "1300 created, 999 exist already, 1 failed")
	wantContains(t, second.out, "dev-0007  failed  not this one")
	if fmt.Sprint(p.sizes) != "[1000 1000 301]" {
		t.Errorf("calls of %v devices", p.sizes)
	}
	if d := p.made["dev-2299"]; d.Note != "n, 2299" || d.Labels["site"] != "north" {
		t.Errorf("made %v", d)
	}
	wantMode(t, filepath.Join(dir, "dev-2299.json"), 0o600)
	wantContains(t, read(t, filepath.Join(dir, "dev-0000.json")), `"credential": "tl1.dev-0000.1.secret"`)
	if _, err := os.Stat(filepath.Join(dir, "dev-0007.json")); err == nil {
		t.Error("a refused device has a file")
	}

	delete(p.refuse, "dev-0007")
	p.hubctl("device", "import", file, "--out-dir", dir).want(t, exitOK)
	if left, _ := os.ReadDir(dir); len(left) != 2300 {
		t.Errorf("%d files", len(left))
	}
}

func TestImportNeverOverwritesACredential(t *testing.T) {
	p := newImportPeer(t)
	dir := t.TempDir()
	old := write(t, filepath.Join(dir, "a.json"), "of another hub")
	p.made["b"] = &operatorv1.NewDevice{}
	file := write(t, filepath.Join(t.TempDir(), "fleet.json"), `[{"id":"a"},{"id":"b"},{"id":"c","labels":{"k":"v"},"allow_unbound":true}]`)
	got := p.hubctl("device", "import", file, "--out-dir", dir).want(t, exitPartial)
	wantContains(t, got.out, "in the way", "hubctl device rotate")
	wantText(t, read(t, old), "of another hub")
	if p.made["a"] != nil {
		t.Error("a was made, its credential is lost")
	}
	if d := p.made["c"]; d == nil || !d.AllowUnbound || d.Labels["k"] != "v" {
		t.Errorf("c: %v", d)
	}
}

func TestImportWithoutFolderPrintsCredentials(t *testing.T) {
	p := newImportPeer(t)
	file := write(t, filepath.Join(t.TempDir(), "fleet.csv"), "\xef\xbb\xbfid\nx\n")
	wantText(t, p.hubctl("device", "import", file, "-o", "csv").want(t, exitOK).out, "id,status,detail,credential\nx,created,,tl1.x.1.secret\n")
}

func TestImportRefusesBadFilesBeforeTheFirstCall(t *testing.T) {
	p := newImportPeer(t)
	for name, c := range map[string]struct{ file, text, want string }{
		"twice":     {"a.csv", "id\nx\ny\nx\n", "line 4: device x is at line 2 already"},
		"id":        {"a.csv", "id\n../x\n", "line 2: device id"},
		"column":    {"a.csv", "id,site\nx,y\n", `column "site"`},
		"no id":     {"a.csv", "note\nx\n", "no column id"},
		"empty":     {"a.csv", "", "empty"},
		"bool":      {"a.csv", "id,allow_unbound\nx,maybe\n", "line 2"},
		"extension": {"a.txt", "id\nx\n", ".csv or .json"},
		"unknown":   {"a.json", `[{"id":"x","lable":{}}]`, "lable"},
		"trailing":  {"a.json", `[{"id":"x"}] []`, "more behind"},
	} {
		file := write(t, filepath.Join(t.TempDir(), c.file), c.text)
		got := p.hubctl("device", "import", file)
		if got.code != exitUsage || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: code %d, %s", name, got.code, got.stderr)
		}
	}
	if len(p.called()) > 0 {
		t.Errorf("called %v", p.called())
	}
}
