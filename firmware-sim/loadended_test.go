package firmwaresim_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
)

// A hub that ends before it is ready is named, with its status and what it has
// said last: by a load and by a proof.
func TestHubThatEndsAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no shell
	}
	t.Parallel()
	for script, want := range map[string][]string{
		"exit 0": {"the hub ended before it was ready (exit status 0), and has said nothing"},
		"echo a word >&2; echo no key of that name >&2; exit 3": {"the hub ended before it was ready (exit status 3); its log ends:\n", "no key of that name"},
	} {
		hubd := filepath.Join(t.TempDir(), "hubd")
		if err := os.WriteFile(hubd, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, loaded := firmwaresim.Load(t.Context(), firmwaresim.LoadConfig{
			Own: &firmwaresim.OwnHub{Hubd: hubd, Influxd: "none"}, Devices: 1, For: time.Second,
		})
		_, proven := firmwaresim.Prove(t.Context(), firmwaresim.ProveConfig{Hubd: hubd, Influxd: "none", Without: []string{"disk-full"}})
		for what, err := range map[string]error{"load": loaded, "proof": proven} {
			for _, words := range want {
				if err == nil || !strings.Contains(err.Error(), words) {
					t.Errorf("%s with a hub that does %q: got %v; want %q", what, script, err, words)
				}
			}
		}
	}
}
