package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
)

func columnsOf(n int, whole ...int) []Column[[]string] {
	var columns []Column[[]string]
	for i := range n {
		c := Column[[]string]{Name: fmt.Sprintf("C%d", i), Cell: func(row []string) string { return row[i] }}
		for _, w := range whole {
			c.Whole = c.Whole || w == i
		}
		columns = append(columns, c)
	}
	return columns
}

func TestTableStaysWithinAnyWidth(t *testing.T) {
	rows := [][]string{{"device-with-a-long-id", strings.Repeat("温", 40), "short", "\x1b[31m" + strings.Repeat("x", 90)}, {"d", "", "", ""}}
	for width := 1; width < 250; width++ {
		var b bytes.Buffer
		hidden, err := WriteTable(&b, width, columnsOf(4, 0), rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
			if w := terminal.Width(line); w > width {
				t.Fatalf("width %d: %d cells: %q", width, w, line)
			}
		}
		if width >= 40 && (hidden > 0 || !strings.Contains(b.String(), "device-with-a-long-id")) {
			t.Fatalf("width %d: %d hidden:\n%s", width, hidden, b.String())
		}
	}
	var b bytes.Buffer
	if _, err := WriteTable(&b, 0, columnsOf(4), rows); err != nil || !strings.Contains(b.String(), strings.Repeat("x", 90)) {
		t.Errorf("without a width: %v\n%s", err, b.String())
	}
}

// Ids give way first, but stay apart; without a screen they stay whole.
func TestTableShortensIdsFirst(t *testing.T) {
	columns := columnsOf(3, 0)
	columns[0].Begin = true
	reason := strings.Repeat("reason ", 5)
	rows := [][]string{
		{"0198c1d2-7a3b-7c4d-8e5f-0123456789ab", "pump-1", reason},
		{"0198c1d2-7a4b-7c4d-8e5f-0123456789ab", "pump-2", reason},
	}
	for width, want := range map[int]string{80: "0198c1d2-7a3b-7c4d-8e5f-0123456789…", 58: "0198c1d2-7a3…", 0: rows[0][0]} {
		var b bytes.Buffer
		if _, err := WriteTable(&b, width, columns, rows); err != nil {
			t.Fatal(err)
		}
		line := strings.Split(b.String(), "\n")[1]
		if id, rest, _ := strings.Cut(line, " "); id != want || !strings.HasSuffix(rest, strings.TrimSpace(reason)) {
			t.Errorf("width %d: %q", width, line)
		}
	}
}

func TestTableAlignsNumbersRight(t *testing.T) {
	columns := columnsOf(2)
	columns[1].Right = true
	var b bytes.Buffer
	if _, err := WriteTable(&b, 0, columns, [][]string{{"a", "1"}, {"bcd", "1000"}}); err != nil {
		t.Fatal(err)
	}
	if want := "C0     C1\na       1\nbcd  1000\n"; b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}

// JSON keeps its meaning, and has nothing in it that a terminal obeys.
func TestJSONIsHarmlessAndStable(t *testing.T) {
	text := "\u009b31m\x7f\u202e\x1b ü 温 \\u009b"
	m := structpb.NewStringValue(text)
	raw, err := Compact(m)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(string(raw), terminal.Unsafe) {
		t.Errorf("%q", raw)
	}
	var back string
	if err := json.Unmarshal(raw, &back); err != nil || back != text {
		t.Errorf("%q, %v", back, err)
	}
}

func TestArrayIsOneJSONDocument(t *testing.T) {
	for n := range 3 {
		var b bytes.Buffer
		a := NewArray(&b)
		for range n {
			if err := a.Put(structpb.NewBoolValue(true)); err != nil {
				t.Fatal(err)
			}
		}
		if n > 0 && json.Valid(b.Bytes()) {
			t.Error("an array that was not finished looks finished")
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		var got []bool
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got) != n {
			t.Errorf("%d: %v, %s", n, err, b.String())
		}
	}
}

func TestLinesGrowWithTheirCells(t *testing.T) {
	columns := columnsOf(2)
	columns[0].Min = 4
	var b bytes.Buffer
	l := NewLines(&b, 12, columns)
	for _, row := range [][]string{{"a", "x\n"}, {"longer", "y"}, {"b", strings.Repeat("z", 20)}} {
		if err := l.Put(row); err != nil {
			t.Fatal(err)
		}
	}
	if want := "C0    C1\na     x\\n\nlonger  y\nb       zzz…\n"; b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}
