package firmwaresim

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tearWrite leaves behind the newest file of a stream what a power cut leaves
// of a write that was under way: bytes that are no record, behind the last
// record that was acknowledged. Nothing acknowledged is touched, so nothing
// may be missing afterwards.
func tearWrite(data string, pick uint64) error {
	stream := []string{"TELEMETRY", "COMMANDS"}[pick%2]
	var newest string
	var newestTime time.Time
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".blk" || !strings.Contains(path, filepath.Join(stream, "msgs")) {
			return err
		}
		info, err := e.Info()
		if err == nil && !info.ModTime().Before(newestTime) {
			newest, newestTime = path, info.ModTime()
		}
		return err
	})
	if err != nil || newest == "" {
		return err
	}
	file, err := os.OpenFile(newest, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	if _, err := file.WriteAt(tornBytes(file, info.Size(), pick), info.Size()); err != nil {
		return fmt.Errorf("tear a write: %w", err)
	}
	return nil
}

// tornBytes are zeros, noise, or the beginning of what looks like a record.
func tornBytes(file *os.File, size int64, pick uint64) []byte {
	rng := rand.New(rand.NewPCG(pick, 1))
	torn := make([]byte, 1+rng.IntN(4096))
	switch pick / 2 % 3 {
	case 0: // zeros: a file that had grown, and no more
	case 1:
		for i := range torn {
			torn[i] = byte(rng.Uint32())
		}
	default:
		torn = torn[:min(int64(len(torn)), max(size-1, 1))]
		_, _ = file.ReadAt(torn, 0)
	}
	return torn
}
