package hub_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/session"
	"github.com/tetherline/tetherline/telemetry/wire"
)

var update = flag.Bool("update", false, "write the generated parts of the documents anew")

const (
	protocolPage = "../proto/README.md"
	operatorPage = "../deploy/README.md"
)

// What clients are written from says what the code does: the table of close
// codes and the worked bytes. (go test ./hub -run Page -update)
func TestProtocolPageIsUpToDate(t *testing.T) {
	generated(t, protocolPage, map[string]string{"close codes": closeCodes(), "vectors": vectors(t)})
}

// What operators read has every key of the config, with its default.
func TestOperatorPageIsUpToDate(t *testing.T) {
	generated(t, operatorPage, map[string]string{"keys": configKeys()})
}

// The example of the README is one that compiles.
func TestReadmePageIsUpToDate(t *testing.T) {
	source, err := os.ReadFile("../device/client/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "func Example() {\n")
	lines := strings.Split(strings.TrimSuffix(strings.TrimRight(body, "\n"), "\n}"), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "\t")
	}
	generated(t, "../README.md", map[string]string{"go example": "```go\n" + strings.Join(lines, "\n") + "\n```\n"})
}

// generated compares the marked parts of a page with what they should be, or
// writes them.
func generated(t *testing.T, file string, parts map[string]string) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := page
	for name, text := range parts {
		want = section(t, file, want, name, text)
	}
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(page, want) {
		t.Errorf("%s is out of date: run go test ./hub -run Page -update", file)
	}
}

func configKeys() string {
	var b strings.Builder
	b.WriteString("| key | default | what it is |\n|---|---|---|\n")
	cfg := hub.DefaultConfig()
	fs := pflag.NewFlagSet("keys", pflag.ContinueOnError)
	fs.SortFlags = false
	cfg.Flags(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		value := f.DefValue
		if value == "[]" {
			value = ""
		}
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, value, f.Usage)
	})
	return b.String()
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

// Every test that SECURITY.md names for a promise is there.
func TestPromisesNameTheirTests(t *testing.T) {
	page, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := exec.Command("git", "grep", "-h", "^func Test", "--", "../*_test.go").Output()
	if err != nil {
		t.Fatalf("list the tests: %v", err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Fatalf("SECURITY.md names %d tests; want at least two for each of ten promises", len(named))
	}
	for _, name := range named {
		if !bytes.Contains(source, []byte("func "+name[1]+"(")) {
			t.Errorf("SECURITY.md names %s, which is not there", name[1])
		}
	}
}

// section replaces what stands between the marks of a generated part.
func section(t *testing.T, file string, page []byte, name, text string) []byte {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	head, rest, ok := strings.Cut(string(page), begin)
	if !ok {
		t.Fatalf("%s has no mark %q", file, begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s has no mark %q", file, end)
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
