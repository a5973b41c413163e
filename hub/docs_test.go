package hub_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tetherline/tetherline/hub/session"
	"github.com/tetherline/tetherline/telemetry/wire"
)

var update = flag.Bool("update", false, "write the generated parts of proto/README.md anew")

const protocolPage = "../proto/README.md"

// What clients are written from says what the code does: the table of close
// codes and the worked bytes. (go test ./hub -run Page -update)
func TestProtocolPageIsUpToDate(t *testing.T) {
	page, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	want := section(t, page, "close codes", closeCodes())
	want = section(t, want, "vectors", vectors(t))
	if *update {
		if err := os.WriteFile(protocolPage, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(page, want) {
		t.Errorf("%s is out of date: run go test ./hub -run Page -update", protocolPage)
	}
}

// The page names every reserved column, and no other.
func TestProtocolPageNamesReservedColumns(t *testing.T) {
	page, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(page), "Reserved column names")
	if !found {
		t.Fatal("the page has no line on reserved names")
	}
	line, _, _ = strings.Cut(line, "\n")
	for _, name := range []string{"device", "time", "_time", "_start", "_stop", "_measurement", "_field", "_value"} {
		if !wire.ReservedColumn(name) || !strings.Contains(line, "`"+name+"`") {
			t.Errorf("%s: reserved in the code: %v; the page says %q", name, wire.ReservedColumn(name), line)
		}
	}
	if n := strings.Count(line, "`") / 2; n != 8 {
		t.Errorf("the page names %d reserved columns; want 8", n)
	}
}

// section replaces what stands between the marks of a generated part.
func section(t *testing.T, page []byte, name, text string) []byte {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	head, rest, ok := strings.Cut(string(page), begin)
	if !ok {
		t.Fatalf("%s has no mark %q", protocolPage, begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s has no mark %q", protocolPage, end)
	}
	return []byte(head + begin + text + end + tail)
}

func closeCodes() string {
	var b strings.Builder
	b.WriteString("| code | name | meaning | the device |\n|---|---|---|---|\n")
	for _, c := range session.CloseCodes() {
		then := "comes back"
		if !c.Reconnect {
			then = "stops"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", c.Code, strings.ReplaceAll(c.Name, "_", " "), c.Text, then)
	}
	return b.String()
}

// vectors shows device/testdata/vectors.json in its own order.
func vectors(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../device/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for depth, key := 0, ""; decoder.More() || depth > 0; {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' {
				if key != "" {
					fmt.Fprintf(&b, "\n%s:\n\n", strings.ReplaceAll(key, "_", " "))
				}
				depth++
			} else {
				depth--
			}
			key = ""
		default:
			if key == "" {
				key = fmt.Sprint(v)
				continue
			}
			if key != "comment" {
				fmt.Fprintf(&b, "    %s = %s\n", key, fmt.Sprint(v))
			} else if depth > 1 {
				fmt.Fprintf(&b, "    (%s)\n", v)
			}
			key = ""
		}
	}
	return b.String()
}
