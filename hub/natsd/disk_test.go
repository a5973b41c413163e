package natsd

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestServerSyncsAlways(t *testing.T) {
	node, err := Start(t.Context(), Config{Dir: t.TempDir(), Name: "one", MaxStore: 1 << 28})
	if err != nil {
		t.Fatal(err)
	}
	cfg := node.embedded.srv.JetStreamConfig()
	if !cfg.SyncAlways || cfg.MaxStore != 1<<28 {
		t.Errorf("sync always %v, max store %d; want true, %d", cfg.SyncAlways, cfg.MaxStore, 1<<28)
	}
	if err := node.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestRewriteLastBlocks(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"2.blk": "two", "10.blk": "ten", "index.db": "index"}
	before := map[string]os.FileInfo{}
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before[name], _ = os.Stat(path)
	}
	if err := rewriteLastBlocks(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != len(files) {
		t.Fatalf("%d files in the folder, %v; want %d", len(entries), err, len(files))
	}
	for name, text := range files {
		path := filepath.Join(folder, name)
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, []byte(text)) {
			t.Errorf("%s is %q, %v; want %q", name, got, err, text)
		}
		after, _ := os.Stat(path)
		if same := os.SameFile(before[name], after); same != (name != "10.blk") {
			t.Errorf("%s is the same file: %v", name, same)
		}
	}
}
