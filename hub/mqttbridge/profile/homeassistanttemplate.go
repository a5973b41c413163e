package profile

import (
	"fmt"
	"strings"
)

// valueTemplate is a value_template: the payload itself, or one value of a
// JSON document. Those of Home Assistant are programs; only these forms are
// understood:
//
//	{{ value }}  {{ value_json.a.b }}  {{ value_json['a']["b"][0] }}
//
// with the filters float and is_defined behind them, which change nothing
// here.
type valueTemplate struct {
	json bool
	path string // as Leaf.Path
}

// parseValueTemplate reads a template. The error names it.
func parseValueTemplate(text string) (valueTemplate, error) {
	wrong := fmt.Errorf("template %s is not understood", quoted(text))
	if strings.TrimSpace(text) == "" {
		return valueTemplate{}, nil
	}
	inner, ok := strings.CutPrefix(strings.TrimSpace(text), "{{")
	if inner, ok = cutSuffix(inner, "}}", ok); !ok {
		return valueTemplate{}, wrong
	}
	inner = strings.TrimPrefix(strings.TrimSuffix(inner, "-"), "-")
	parts := strings.Split(inner, "|")
	for _, filter := range parts[1:] {
		if name := strings.TrimSpace(filter); name != "float" && name != "is_defined" && name != "float(0)" {
			return valueTemplate{}, wrong
		}
	}
	expression := strings.TrimSpace(parts[0])
	if expression == "value" {
		return valueTemplate{}, nil
	}
	rest, ok := strings.CutPrefix(expression, "value_json")
	if !ok {
		return valueTemplate{}, wrong
	}
	var path []string
	for rest != "" {
		var key string
		if key, rest, ok = nextKey(rest); !ok || len(path) == MaxDepth {
			return valueTemplate{}, wrong
		}
		path = append(path, strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(key))
	}
	return valueTemplate{json: true, path: strings.Join(path, ".")}, nil
}

func cutSuffix(text, suffix string, ok bool) (string, bool) {
	if !ok {
		return text, false
	}
	return strings.CutSuffix(text, suffix)
}

// nextKey is ".name", "['name']", "[\"name\"]" or "[0]" at the front.
func nextKey(text string) (key, rest string, ok bool) {
	if name, found := strings.CutPrefix(text, "."); found {
		end := strings.IndexAny(name, ".[")
		if end < 0 {
			end = len(name)
		}
		return name[:end], name[end:], isIdentifier(name[:end])
	}
	inner, found := strings.CutPrefix(text, "[")
	if !found || inner == "" {
		return "", "", false
	}
	if quote := inner[0]; quote == '\'' || quote == '"' {
		key, rest, found = strings.Cut(inner[1:], string(quote)+"]")
		return key, rest, found && !strings.ContainsAny(key, `'"\`)
	}
	key, rest, found = strings.Cut(inner, "]")
	return key, rest, found && key != "" && len(key) < 4 && strings.Trim(key, "0123456789") == ""
}

func isIdentifier(name string) bool {
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// document is a message in the hands of several templates: it is read as JSON
// once, and only where one wants that.
type document struct {
	payload []byte
	flat    *Flattener
	leaves  []Leaf
	read    bool
	err     error
}

// text is what a template makes of the message; false: it has no such value.
func (d *document) text(t valueTemplate) (string, bool, error) {
	if !t.json {
		return string(d.payload), true, nil
	}
	if !d.read {
		d.leaves, _, d.err = d.flat.Flatten(d.payload)
		d.read = true
	}
	for i := range d.leaves {
		if d.leaves[i].Path == t.path {
			return d.leaves[i].text(), true, nil
		}
	}
	return "", false, d.err
}
