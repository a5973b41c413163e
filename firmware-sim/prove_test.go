package firmwaresim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// The short form of what `firmware-sim prove` does: everything that can break
// here breaks, and every promise holds.
func TestProve(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "proof")
	v, err := firmwaresim.Prove(t.Context(), firmwaresim.ProveConfig{
		For: 13 * time.Second, Devices: 20, Rate: 200, Commands: 5, Seed: 25, Hubd: os.Args[0], Dir: dir,
		Progress: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := v.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	if !v.Held {
		t.Error("a promise is broken")
	}
	if v.Store != "InfluxDB" {
		t.Error("no InfluxDB was found; run `make test`, which builds it")
	}
	if v.Rows.Acknowledged < 2000 || v.Rows.Stored < v.Rows.Acknowledged-v.Rows.Quarantined || v.Commands.Ran < 20 {
		t.Errorf("too little was tried: %+v, %+v", v.Rows, v.Commands)
	}
	if v.Faults["hub-kill"]+v.Faults["torn-write"] == 0 {
		t.Errorf("the hub was never killed; there were %v", v.Faults)
	}
	for _, fault := range []string{"link-cut", "link-stall", "conflict", "impostor", "middleman"} {
		if v.Faults[fault] == 0 {
			t.Errorf("%s never happened; there were %v", fault, v.Faults)
		}
	}
	for _, p := range v.Promises {
		// What the others need may not happen in so short a time.
		if p.Verdict != "held" && slices.Contains([]int{0, 1, 2, 3, 5, 7, 8}, p.Number) {
			t.Errorf("promise %d: %s", p.Number, p.Verdict)
		}
	}
	if strings.Contains(readLog(t, dir), "DATA RACE") {
		t.Error("the hub has a data race: see its log above")
	}
	wantJSON(t, v)
}

func readLog(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "hub.log"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("DATA RACE")) {
		t.Logf("%s", text)
	}
	return string(text)
}

// wantJSON: scripts read the verdict.
func wantJSON(t *testing.T, v firmwaresim.Verdict) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Held     *bool
		Seed     uint64
		Rows     struct{ Acknowledged, Missing *uint64 }
		Promises []struct {
			Promise  int
			Verdict  string
			Evidence string
		}
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Held == nil || back.Seed != 25 || back.Rows.Missing == nil || len(back.Promises) != 11 || back.Promises[10].Evidence == "" {
		t.Errorf("the verdict as JSON lacks something: %s", text)
	}
}

// What cannot be judged is an error, and no verdict.
func TestProveRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  firmwaresim.ProveConfig
		want string
	}{
		"no hub":        {firmwaresim.ProveConfig{Hubd: "/no/such/hubd"}, "hubd"},
		"no influxd":    {firmwaresim.ProveConfig{Hubd: os.Args[0], Influxd: "/no/such/influxd"}, "influxd"},
		"full folder":   {firmwaresim.ProveConfig{Hubd: os.Args[0], Dir: full}, "not empty"},
		"unknown fault": {firmwaresim.ProveConfig{Only: []string{"earthquake"}}, "earthquake"},
		"too short":     {firmwaresim.ProveConfig{For: time.Second}, "10s"},
		"too few":       {firmwaresim.ProveConfig{Devices: 1}, "5 to 5000"},
		"too much":      {firmwaresim.ProveConfig{Rate: 1e9}, "rate"},
		"no room":       {firmwaresim.ProveConfig{Hubd: os.Args[0], For: 48 * time.Hour, Devices: 5000, Rate: 5000, Commands: 10, Influxd: "none"}, "MiB"},
	} {
		if _, err := firmwaresim.Prove(t.Context(), tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the error is %v; want one with %q", name, err, tt.want)
		}
	}
}

// Whoever interrupts a proof gets no verdict, and nothing stays.
func TestProveInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	temporary := t.TempDir()
	_, err := firmwaresim.Prove(ctx, firmwaresim.ProveConfig{
		For: time.Minute, Devices: 5, Rate: 50, Seed: 1, Hubd: os.Args[0], Influxd: "none", Dir: filepath.Join(temporary, "proof"),
		Without: []string{"disk-full"},
		Progress: func(line string) {
			if strings.Contains(line, "link-cut for") && strings.Contains(line, " s  link") && !strings.Contains(line, "    for") {
				cancel()
			}
		},
	})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("an interrupted proof returns %v", err)
	}
}
