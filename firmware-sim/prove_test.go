package firmwaresim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	if v.Outcome != firmwaresim.OutcomeHeld && v.Outcome != firmwaresim.OutcomeIncomplete {
		t.Errorf("the outcome is %s", v.Outcome)
	}
	if b := v.Rows.Books; b.Generated != v.Rows.Published || b.Lost != 0 || b.InSpools != 0 || b.Stored != v.Rows.Stored {
		t.Errorf("the books are %+v of %+v", b, v.Rows)
	}
	if v.Store != "InfluxDB" {
		t.Error("no InfluxDB was found; run `make test`, which builds it")
	}
	if v.Rows.Acknowledged < 500 || v.Rows.Stored < v.Rows.Acknowledged-v.Rows.Quarantined || v.Commands.Ran < 5 {
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
		if p.Verdict != "held" && slices.Contains([]int{0, 1, 2, 3, 7}, p.Number) {
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
		Held    *bool
		Outcome string
		Seed    uint64
		Rows    struct {
			Acknowledged, Missing *uint64
			Books                 struct{ Generated, Lost *uint64 }
		}
		Promises []struct {
			Promise  int
			Verdict  string
			Evidence string
		}
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Held == nil || back.Outcome == "" || back.Rows.Books.Generated == nil || back.Rows.Books.Lost == nil || back.Seed != 25 || back.Rows.Missing == nil || len(back.Promises) != 11 || back.Promises[10].Evidence == "" {
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
		"no hub":                 {firmwaresim.ProveConfig{Hubd: "/no/such/hubd"}, "hubd"},
		"no influxd":             {firmwaresim.ProveConfig{Hubd: os.Args[0], Influxd: "/no/such/influxd"}, "influxd"},
		"full folder":            {firmwaresim.ProveConfig{Hubd: os.Args[0], Dir: full}, "not empty"},
		"unknown fault":          {firmwaresim.ProveConfig{Only: []string{"earthquake"}}, "earthquake"},
		"unknown fault left out": {firmwaresim.ProveConfig{Without: []string{"hub-kill", "flood"}}, `there is no fault "flood"`},
		"only and without":       {firmwaresim.ProveConfig{Only: []string{"hub-kill", "link-cut"}, Without: []string{"link-cut"}}, "both name link-cut"},
		"without beside only":    {firmwaresim.ProveConfig{Only: []string{"hub-kill"}, Without: []string{"link-cut"}}, "changes nothing"},
		"nothing left":           {firmwaresim.ProveConfig{Without: firmwaresim.Faults()}, "every fault"},
		"nothing possible":       {firmwaresim.ProveConfig{Hubd: os.Args[0], Influxd: "none", Only: []string{"store-kill", "store-5xx"}}, "none of the faults that are wanted is possible here"},
		"too short":              {firmwaresim.ProveConfig{For: time.Second}, "10s"},
		"too few":                {firmwaresim.ProveConfig{Devices: 1}, "5 to 5000"},
		"too much":               {firmwaresim.ProveConfig{Rate: 1e9}, "rate"},
		"no room":                {firmwaresim.ProveConfig{Hubd: os.Args[0], For: 48 * time.Hour, Devices: 5000, Rate: 5000, Commands: 10, Influxd: "none"}, "MiB"},
	} {
		if _, err := firmwaresim.Prove(t.Context(), tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the error is %v; want one with %q", name, err, tt.want)
		}
	}
}

// Whoever interrupts a proof hears what was found until then, and no word of
// what was not compared.
func TestProveInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	temporary := t.TempDir()
	v, err := firmwaresim.Prove(ctx, firmwaresim.ProveConfig{
		For: time.Minute, Devices: 5, Rate: 50, Seed: 1, Hubd: os.Args[0], Influxd: "none", Dir: filepath.Join(temporary, "proof"),
		Without: []string{"disk-full"},
		Progress: func(line string) {
			if strings.Contains(line, " s  link-") && strings.Contains(line, " for ") && !strings.Contains(line, "  for") {
				cancel()
			}
		},
	})
	if !errors.Is(err, firmwaresim.ErrInterrupted) || v.Outcome != firmwaresim.OutcomeInterrupted || v.Held || len(v.Untried) != 10 {
		t.Errorf("an interrupted proof returns %v, %s, not tried %v", err, v.Outcome, v.Untried)
	}
	if v.Rows.Published == 0 || v.Rows.Acknowledged == 0 || v.Early != "interrupted" || v.Rows.Books.Generated != 0 {
		t.Errorf("an interrupted proof tells of %+v", v.Rows)
	}
}
