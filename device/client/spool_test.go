package client

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func openSpool(t testing.TB, dir string, o FileSpoolOptions) *FileSpool {
	t.Helper()
	s, err := OpenFileSpool(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func held(s Spool) (bodies []string) {
	for info, ok := s.Next(0); ok; info, ok = s.Next(info.Pos + 1) {
		body, err := s.Body(info.Pos)
		if err != nil || len(body) != info.Size {
			return append(bodies, fmt.Sprint(err, len(body), info))
		}
		text := fmt.Sprintf("%s/%d", body, info.Rows)
		if info.Sent {
			text += " sent"
		}
		bodies = append(bodies, text)
	}
	return bodies
}

func appendFrame(t testing.TB, s Spool, rows int, body string) uint64 {
	t.Helper()
	pos, err := s.Append(Frame{Rows: rows, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// Both spools do the same through any sequence of calls, and the one on disk
// is the same after it has been opened again.
func TestSpoolsAgree(t *testing.T) {
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		memory := NewMemorySpool(256 << 10)
		dir := t.TempDir()
		file := openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
		var last uint64
		// The positions of the two may differ where one was full and the
		// other not; both count only what was appended to both.
		for step := range 300 {
			switch n := rnd.IntN(10); {
			case n < 6:
				body := strings.Repeat(strconv.Itoa(step)+",", rnd.IntN(2000))
				rows := 1 + rnd.IntN(1000)
				if memory.Stats().Bytes+int64(len(body))+64 > 200<<10 {
					continue
				}
				last = appendFrame(t, memory, rows, body)
				if pos := appendFrame(t, file, rows, body); pos != last {
					t.Fatalf("positions %d and %d", last, pos)
				}
			case n < 8 && last > 0:
				pos := rnd.Uint64N(last + 1)
				memory.AddDropped(3)
				file.AddDropped(3)
				memory.MarkSent(pos + 1)
				file.MarkSent(pos + 1)
				if err := errors.Join(memory.Remove(pos), file.Remove(pos)); err != nil {
					t.Fatal(err)
				}
				last = keepUp(memory, file, last)
			case n == 8 && last > 20:
				pos := last - 20 + rnd.Uint64N(20)
				if err := errors.Join(memory.Trim(pos), file.Trim(pos)); err != nil {
					t.Fatal(err)
				}
			case n == 9:
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				file = openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
				last = keepUp(memory, file, last)
			}
			if a, b := held(memory), held(file); !slices.Equal(a, b) {
				t.Fatalf("seed %d step %d: memory holds %d, file %d", seed, step, len(a), len(b))
			}
			a, b := memory.Stats(), file.Stats()
			if a.Frames != b.Frames || a.Rows != b.Rows || memory.Dropped() != file.Dropped() {
				t.Fatalf("seed %d step %d: %+v %d, %+v %d", seed, step, a, memory.Dropped(), b, file.Dropped())
			}
		}
		if files, _ := filepath.Glob(dir + "/*.spool"); len(files) > 16 {
			t.Fatalf("%d segments", len(files))
		}
	}
}

// keepUp takes the positions in memory that records of the file have which
// only carry the total. It returns the last one.
func keepUp(memory *MemorySpool, file *FileSpool, last uint64) uint64 {
	for file.active().next() > last+1 {
		last, _ = memory.Append(Frame{Rows: 1})
		_ = memory.Remove(last)
	}
	return last
}

func TestFullSpools(t *testing.T) {
	for name, s := range map[string]Spool{
		"memory": NewMemorySpool(256 << 10),
		"file":   openSpool(t, t.TempDir(), FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1}),
	} {
		body := strings.Repeat("x", 60<<10)
		for range 4 {
			appendFrame(t, s, 1, body)
		}
		if _, err := s.Append(Frame{Rows: 1, Body: []byte(body)}); !errors.Is(err, ErrSpoolFull) {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Trim(1); err != nil {
			t.Fatal(err)
		}
		appendFrame(t, s, 1, body)
		if st := s.Stats(); st.Frames != 4 || st.Bytes > st.MaxBytes {
			t.Fatalf("%s: %+v", name, st)
		}
	}
}

// Disk space comes back while the oldest frame stays.
func TestFileSpoolFreesDiskBehindAHeldFrame(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10, SyncInterval: -1})
	appendFrame(t, s, 1, "head")
	body := strings.Repeat("x", 10<<10)
	for range 500 {
		if err := s.Remove(appendFrame(t, s, 1, body)); err != nil {
			t.Fatal(err)
		}
	}
	var disk int64
	files, _ := filepath.Glob(dir + "/*.spool")
	for _, f := range files {
		info, _ := os.Stat(f)
		disk += info.Size()
	}
	if disk > 256<<10 {
		t.Fatalf("%d bytes in %d files for one frame", disk, len(files))
	}
	if got := held(s); !slices.Equal(got, []string{"head/1"}) {
		t.Fatal(got)
	}
}

func TestFileSpoolTornAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, FileSpoolOptions{})
	appendFrame(t, s, 3, "first")
	whole := s.active().size
	appendFrame(t, s, 4, "second")
	s.Close()
	path := segmentPath(dir, 1)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(data); cut >= 0; cut-- {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := openSpool(t, dir, FileSpoolOptions{})
		want := []string{"first/3", "second/4"}
		if cut < len(data) {
			want = want[:1]
		}
		if int64(cut) < whole {
			want = nil
		}
		if got := held(s); !slices.Equal(got, want) {
			t.Fatalf("cut at %d of %d: %v", cut, len(data), got)
		}
		appendFrame(t, s, 5, "after")
		s.Close()
		s = openSpool(t, dir, FileSpoolOptions{})
		if got := held(s); !slices.Equal(got, append(slices.Clone(want), "after/5")) {
			t.Fatalf("cut at %d, then appended: %v", cut, got)
		}
		s.Close()
	}
}

func TestFileSpoolDamageIsCounted(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10})
	for range 3 {
		appendFrame(t, s, 1, strings.Repeat("x", 40<<10))
	}
	s.Close()
	path := segmentPath(dir, 1)
	data, _ := os.ReadFile(path)
	data[segmentHeaderBytes+recordHeaderBytes+100] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir, FileSpoolOptions{MaxBytes: 256 << 10})
	if s.Damaged() == 0 || s.Dropped() == 0 || s.Stats().Frames != 1 {
		t.Fatalf("damaged %d, dropped %d, %+v", s.Damaged(), s.Dropped(), s.Stats())
	}
}

// A frame that rots on disk is dropped and counted; those behind it go on.
func TestDamagedFrameDoesNotBlockTheOthers(t *testing.T) {
	hub := newPeer(t)
	cfg := hub.config()
	s := openSpool(t, t.TempDir(), FileSpoolOptions{})
	cfg.Spool = s
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if err := c.Publish(t.Context(), Reading(Int("n", i))); err != nil {
			t.Fatal(err)
		}
	}
	g := s.active()
	if _, err := g.file.WriteAt([]byte{0xff}, int64(g.records[1].offset)+recordHeaderBytes+5); err != nil {
		t.Fatal(err)
	}
	r := run(t, c)
	conn := hub.accept(t).welcome()
	if tm, _ := conn.telemetry(1); value(tm, "n") != 0 {
		t.Fatalf("%v", tm)
	}
	if tm, _ := conn.telemetry(2); value(tm, "n") != 2 {
		t.Fatalf("%v", tm)
	}
	conn.ack(2)
	wantFlushed(t, r)
	if st := r.Stats(); st.RowsDropped != 1 || st.RowsAcked != 2 {
		t.Fatalf("%+v", st)
	}
}

func TestFileSpoolIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	openSpool(t, dir, FileSpoolOptions{})
	if _, err := OpenFileSpool(dir, FileSpoolOptions{}); !errors.Is(err, errLocked) {
		t.Fatalf("opened twice: %v", err)
	}
}

func TestFileSpoolSyncInterval(t *testing.T) {
	s := openSpool(t, t.TempDir(), FileSpoolOptions{SyncInterval: 5 * time.Millisecond})
	appendFrame(t, s, 1, "x")
	eventually(t, "synced", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.unsynced })
}

func TestDroppedTotalSurvives(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(5); want <= 15; want += 5 {
		s := openSpool(t, dir, FileSpoolOptions{})
		s.AddDropped(5)
		if want == 10 {
			appendFrame(t, s, 1, "x") // carried by a frame
			s.closed = true           // as if the process died
			s.closeFiles()
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openSpool(t, dir, FileSpoolOptions{})
		if got := s.Dropped(); got != want {
			t.Fatalf("dropped %d, want %d", got, want)
		}
		s.Close()
	}
}

const (
	childSpoolEnv  = "CLIENT_TEST_SPOOL_CHILD"
	childSyncedEnv = "CLIENT_TEST_SPOOL_SYNCED" // sync every frame
)

// runSpoolChild appends frames for ever, and tells of each that Append has
// returned for.
func runSpoolChild(dir string) {
	o := FileSpoolOptions{MaxBytes: 8 << 20, SyncInterval: -1}
	synced := os.Getenv(childSyncedEnv) != ""
	if synced {
		o = FileSpoolOptions{MaxBytes: 512 << 10}
	}
	s, err := OpenFileSpool(dir, o)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for i := 1; ; i++ {
		body := bytes.Repeat([]byte(strconv.Itoa(i)+","), 1+i%200)
		pos, err := s.Append(Frame{Rows: 1 + i%1000, Body: body})
		if err != nil {
			if synced {
				fmt.Println("trim", i/2)
			}
			_ = s.Trim(uint64(i) / 2)
			continue
		}
		fmt.Println(pos, len(body))
	}
}

func TestFileSpoolSurvivesSIGKILL(t *testing.T) {
	for range 3 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childSpoolEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last, lines := "", bufio.NewScanner(out)
		for n := 0; n < 2000 && lines.Scan(); n++ {
			last = lines.Text()
		}
		_ = cmd.Process.Kill()
		for lines.Scan() {
			last = lines.Text()
		}
		_ = cmd.Wait()
		var pos uint64
		var size int
		if _, err := fmt.Sscan(last, &pos, &size); err != nil {
			t.Fatalf("child said %q", last)
		}
		s := openSpool(t, dir, FileSpoolOptions{MaxBytes: 8 << 20})
		if s.Damaged() != 0 {
			t.Fatalf("%d bytes damaged", s.Damaged())
		}
		body, err := s.Body(pos)
		if err != nil || len(body) != size {
			t.Fatalf("the last frame that was told of, %d: %v, %d bytes instead of %d", pos, err, len(body), size)
		}
		expect := uint64(0)
		for info, ok := s.Next(0); ok && info.Pos <= pos; info, ok = s.Next(info.Pos + 1) {
			if expect != 0 && info.Pos != expect {
				t.Fatalf("frame %d is missing", expect)
			}
			expect = info.Pos + 1
		}
	}
}

// A spool that was left behind is sent under a new boot id, and the total of
// dropped rows goes on.
func TestClientResumesAFileSpool(t *testing.T) {
	dir := t.TempDir()
	hub := newPeer(t)
	cfg := hub.config()
	s := openSpool(t, dir, FileSpoolOptions{})
	cfg.Spool = s
	c := start(t, cfg)
	conn := hub.accept(t).welcome()
	c.publish(t, 1, 2, 3)
	for seq := uint64(1); seq <= 3; seq++ {
		conn.telemetry(seq)
	}
	conn.ack(1)
	eventually(t, "acked", func() bool { return c.Stats().RowsAcked == 1 })
	first := conn.hello.BootId
	c.stop(t)
	s.Close()

	cfg.Spool = openSpool(t, dir, FileSpoolOptions{})
	c = start(t, cfg)
	c.publish(t, 4)
	conn = hub.accept(t).welcome()
	if bytes.Equal(first, conn.hello.BootId) {
		t.Fatal("a new process counts in the sequence of the old one")
	}
	for seq, want := range []int64{2, 3, 4} {
		if tm, _ := conn.telemetry(uint64(seq + 1)); value(tm, "n") != want {
			t.Fatalf("seq %d: %v, want row %d", seq+1, tm, want)
		}
	}
	conn.ack(3)
	wantFlushed(t, c)
	if st := c.Stats(); st.RowsRecovered != 2 || st.RowsAcked != 3 {
		t.Fatalf("%+v", st)
	}
}

func FuzzSpoolRecovery(f *testing.F) {
	dir := f.TempDir()
	s := openSpool(f, dir, FileSpoolOptions{SyncInterval: -1})
	appendFrame(f, s, 1, "one")
	appendFrame(f, s, 2, strings.Repeat("two", 100))
	_ = s.Remove(1)
	s.Close()
	good, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-5])
	f.Add(good[:40])
	f.Add([]byte(nil))
	huge := slices.Clone(good)
	binary.BigEndian.PutUint32(huge[segmentHeaderBytes:], 1<<31)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(segmentPath(dir, 1), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenFileSpool(dir, FileSpoolOptions{SyncInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		want := held(s)
		if _, err := s.Append(Frame{Rows: 7, Body: []byte("new")}); err != nil {
			t.Fatal(err)
		}
		want = append(want, "new/7")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = OpenFileSpool(dir, FileSpoolOptions{SyncInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if got := held(s); !slices.Equal(got, want) {
			t.Fatalf("after another open: %q, want %q", got, want)
		}
	})
}
