package profile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
	"github.com/tetherline/tetherline/telemetry/wire"
)

// Limits of a flattened JSON document, beside MaxPayloadBytes and MaxDepth.
const (
	// MaxArray is how many elements of an array become fields; those after
	// them are left out, which the problem says.
	MaxArray = 64
	// maxPathBytes of a leaf's path; a longer one is left out.
	maxPathBytes = 512
	// maxPaths are remembered between documents, so that a known path costs
	// no allocation.
	maxPaths = 4096
)

// Leaf is one value of a JSON document.
type Leaf struct {
	// Path is the keys down to the value, joined by '.': "ENERGY.Power",
	// "temps.0". A '.' or '\' of a key itself stands behind a '\'. "" is a
	// document that is one value.
	Path string
	// Name is the field name that FieldName makes of the keys; "value" for
	// the Path "".
	Name string
	// Value is a Double for every number, a Bool or a String. So 21 and 21.5
	// are one kind, and a store sees no field that changes its type; use Int
	// where the settings say that a field is an integer.
	Value telemetry.Value
	// number as it was written, in the payload; nil for other values.
	number []byte
	known  *knownPath // of Path
}

// Int is the leaf as an integer, where it is one that an int64 holds: 21,
// 21.0 and 2.1e1 are 21. For a leaf whose payload is still valid.
func (l Leaf) Int() (int64, bool) { return parseInt(l.number) }

func parseInt[T string | []byte](text T) (int64, bool) {
	if v, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return v, true
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// text is the value as a text; a number as it was written. For a leaf whose
// payload is still valid.
func (l Leaf) text() string {
	switch l.Value.Kind() {
	case telemetry.String:
		return l.Value.Str()
	case telemetry.Bool:
		return strconv.FormatBool(l.Value.Bool())
	}
	return string(l.number)
}

// FieldName is Name, with a '_' behind a name that no field may have: "time"
// becomes "time_".
func FieldName(parts ...string) string {
	name := Name(parts...)
	if wire.ReservedColumn(name) {
		name += "_"
	}
	return name
}

// Flattener makes fields of JSON documents. It remembers their paths, within
// a bound. The zero Flattener is ready; it is for one goroutine.
type Flattener struct {
	paths map[string]*knownPath // by Leaf.Path
	names map[string]*knownName // by Leaf.Name

	// Of the document in hand.
	scanner
	document uint64     // its number
	path     []byte     // down to the value in hand
	first    *knownPath // of the document before
	last     *knownPath // of the value before; nil: it is the first
	leaves   []Leaf
	problems int
	problem  string // the first

	// omitted says of which paths nothing is wanted, problems neither; nil: of
	// none.
	omitted func(path string) bool
}

type knownPath struct {
	path string
	name *knownName
	in   uint64     // the last document that had it
	next *knownPath // that stood behind it then
	// What the kind json makes of it; nil: that has not been asked.
	field *jsonField
}

type knownName struct {
	name string
	in   uint64
}

// Flatten makes leaves of a document. They are valid until the next call,
// their strings for ever. They come in the order of the document, and no two
// have one name; null is none.
//
// problem names what was left out while the rest is good: a number that is no
// finite float64 (1e999; the words NaN and Infinity, which some gear writes),
// a string over telemetry.MaxStringBytes, a key that is there twice (the
// first is kept), two keys that make the same name (likewise), elements of an
// array beyond MaxArray.
//
// Errors are Refusals: "too large", "not UTF-8", "not JSON", "too deep", "too
// many fields" (over telemetry.MaxFields).
func (f *Flattener) Flatten(payload []byte) (leaves []Leaf, problem string, err error) {
	if f.paths == nil || len(f.paths) > maxPaths {
		f.paths, f.names, f.first = map[string]*knownPath{}, map[string]*knownName{}, nil
	}
	f.last = nil
	f.document++
	f.path, f.leaves = f.path[:0], f.leaves[:0]
	f.problem, f.problems = "", 0
	if err := f.scan(payload, f); err != nil {
		return nil, "", err
	}
	if f.problems > 1 {
		f.problem = fmt.Sprintf("%s (and %d more)", f.problem, f.problems-1)
	}
	return f.leaves, f.problem, nil
}

// enter a key, or an element of an array; the answer goes to leave.
func (f *Flattener) enter(key []byte) (outside int) {
	outside = len(f.path)
	if outside > maxPathBytes {
		return outside // left out already, and long enough to be so at the leaf
	}
	if f.depth > 1 {
		f.path = append(f.path, '.')
	}
	for _, c := range key {
		if c == '.' || c == '\\' {
			f.path = append(f.path, '\\')
		}
		f.path = append(f.path, c)
	}
	return outside
}

func (f *Flattener) leave(outside int) { f.path = f.path[:outside] }

// leaf adds a value at the path in hand.
func (f *Flattener) leaf(value telemetry.Value, number []byte) error {
	if len(f.path) > maxPathBytes {
		f.trouble("field %s: its path is over %d bytes", quoted(f.path), maxPathBytes)
		return nil
	}
	p := f.known()
	switch {
	case p.in == f.document:
		f.trouble("field %s is there twice: the first is kept", p.path)
		return nil
	case p.name.in == f.document:
		p.in = f.document
		f.trouble("field %s: another one makes the name %s too and is kept", p.path, p.name.name)
		return nil
	case len(f.leaves) == telemetry.MaxFields:
		return Refuse("too many fields", "the document has over %d values, as many as a device may have fields: it is not stored, whatever the settings leave out; let the gear send fewer", telemetry.MaxFields)
	}
	p.in, p.name.in = f.document, f.document
	f.leaves = append(f.leaves, Leaf{Path: p.path, Name: p.name.name, Value: value, number: number, known: p})
	return nil
}

// known is the path in hand. Documents of the same gear have the same paths in
// the same order, so that it is mostly the one that is expected.
func (f *Flattener) known() *knownPath {
	expected := &f.first
	if f.last != nil {
		expected = &f.last.next
	}
	if *expected == nil || (*expected).path != string(f.path) {
		*expected = f.find()
	}
	f.last = *expected
	return f.last
}

func (f *Flattener) find() *knownPath {
	if p, ok := f.paths[string(f.path)]; ok {
		return p
	}
	path := string(f.path)
	name := "value"
	if path != "" {
		name = FieldName(splitPath(path)...)
	}
	n := f.names[name]
	if n == nil {
		n = &knownName{name: name}
		f.names[name] = n
	}
	p := &knownPath{path: path, name: n}
	f.paths[path] = p
	return p
}

// splitPath into the keys of a Leaf.Path.
func splitPath(path string) (keys []string) {
	var key []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			key = append(key, path[i])
		case c == '.':
			keys, key = append(keys, string(key)), key[:0]
		default:
			key = append(key, c)
		}
	}
	return append(keys, string(key))
}

func (f *Flattener) trouble(format string, args ...any) {
	if f.omitted != nil && f.omitted(string(f.path)) {
		return
	}
	f.problems++
	if f.problems == 1 {
		f.problem = cut(fmt.Sprintf(format, args...))
	}
}

// cut a text of a payload for a Refusal or a Problem.
func cut(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// quoted is a part of a payload for people: to 80 bytes, without control
// characters.
func quoted[T string | []byte](text T) string {
	const most = 60
	if len(text) > most {
		return strconv.QuoteToGraphic(strings.ToValidUTF8(string(text[:most]), "")) + "..."
	}
	return strconv.QuoteToGraphic(string(text))
}
