package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// template is a text with the placeholders {gear}, {id} and {arg.NAME}.
type template struct {
	parts []templatePart
}

// templatePart is a text or a placeholder: "gear", "id" or the name of an
// argument behind "arg.".
type templatePart struct {
	text  string
	place string
}

var (
	placeholder  = regexp.MustCompile(`\{(gear|id|arg\.[A-Za-z_][A-Za-z0-9_-]{0,63})\}`)
	argumentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)
	// likePlaceholder is what nobody writes into a text by intention.
	likePlaceholder = regexp.MustCompile(`\{[A-Za-z_][A-Za-z0-9_.-]*\}`)
)

func newTemplate(text string) (*template, error) {
	if len(text) > 4096 {
		return nil, errors.New("it is over 4096 bytes")
	}
	t := &template{}
	at := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		t.parts = append(t.parts, templatePart{text: text[at:m[0]]}, templatePart{place: text[m[2]:m[3]]})
		at = m[1]
	}
	t.parts = append(t.parts, templatePart{text: text[at:]})
	for _, p := range t.parts {
		if odd := likePlaceholder.FindString(p.text); odd != "" {
			return nil, fmt.Errorf("%s is no placeholder: it takes {gear}, {id} and {arg.NAME}", odd)
		}
	}
	return t, nil
}

func (t *template) arguments() (names []string) {
	for _, p := range t.parts {
		if name, ok := strings.CutPrefix(p.place, "arg."); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// hasID reports whether the id of the command is in it; nil has none.
func (t *template) hasID() bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p templatePart) bool { return p.place == "id" })
}

func (t *template) hasArguments() bool { return len(t.arguments()) > 0 }

// fill the placeholders; value makes the text of an argument.
func (t *template) fill(c Command, gear string, value func(name string, v any) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.place {
		case "":
			b.WriteString(p.text)
		case "gear":
			b.WriteString(gear)
		case "id":
			b.WriteString(c.ID)
		default:
			name := p.place[len("arg."):]
			text, err := value(name, c.Args[name])
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		}
	}
	return b.String(), nil
}

// topicValue is an argument as a part of a topic level.
func topicValue(name string, v any) (string, error) {
	text, err := textValue(name, v)
	if err != nil {
		return "", err
	}
	if text == "" || len(text) > 128 || strings.ContainsAny(text, "/+#") || strings.ContainsFunc(text, unicode.IsControl) {
		return "", Refuse("bad argument", "%s goes into a topic: 1 to 128 printable bytes without '/', '+' and '#'", name)
	}
	return text, nil
}

// textValue is an argument as text: nothing for one that is not given.
func textValue(name string, v any) (string, error) {
	switch v.(type) {
	case nil:
		return "", nil
	case string, bool, json.Number:
		return scalarText(v), nil
	}
	return "", Refuse("bad argument", "%s goes into a text: it takes no list or object", name)
}

func scalarText(v any) string { return fmt.Sprint(v) }

// fillJSON is a document with its placeholders filled. An object's member
// that is an argument not given is left out. With check, only the templates
// are checked.
func fillJSON(v any, c Command, gear string, check bool) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		filled := make(map[string]any, len(v))
		for key, member := range v {
			if name, ok := oneArgument(member); ok && c.Args[name] == nil && !check {
				continue
			}
			value, err := fillJSON(member, c, gear, check)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			filled[key] = value
		}
		return filled, nil
	case []any:
		filled := make([]any, len(v))
		for i, element := range v {
			var err error
			if filled[i], err = fillJSON(element, c, gear, check); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case string:
		return fillText(v, c, gear)
	}
	return v, nil
}

func fillText(text string, c Command, gear string) (any, error) {
	if name, ok := oneArgument(text); ok {
		return c.Args[name], nil
	}
	t, err := newTemplate(text)
	if err != nil {
		return nil, err
	}
	return t.fill(c, gear, textValue)
}

// oneArgument tells whether a value of the settings is one placeholder of an
// argument and nothing else.
func oneArgument(v any) (name string, ok bool) {
	text, ok := v.(string)
	if !ok {
		return "", false
	}
	m := placeholder.FindStringSubmatch(text)
	if m == nil || m[0] != text {
		return "", false
	}
	return strings.CutPrefix(m[1], "arg.")
}

// jsonArguments are the arguments that a document names.
func jsonArguments(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			names = append(names, jsonArguments(member)...)
		}
		slices.Sort(names)
	case []any:
		for _, element := range v {
			names = append(names, jsonArguments(element)...)
		}
	case string:
		if t, err := newTemplate(v); err == nil {
			names = t.arguments()
		}
	}
	return names
}
