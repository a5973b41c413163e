package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is a topic with named levels: "sensors/{gear}/{field}". A level may
// be
//
//   - a word, which stands for itself;
//   - "{name}", also with words around it ("esp-{gear}"): one level, which is
//     the name's value; several levels of one name are joined by '/';
//   - "+": any one level, which means nothing;
//   - at the end "{name...}" for all levels from there on, at least one, or
//     "#" for any number that mean nothing.
type pattern struct {
	text   string
	levels []level
	gears  int // levels that are {gear}
}

type level struct {
	kind           levelKind
	name           string // of a variable or a rest
	prefix, suffix string // around a variable; a word is a prefix
}

type levelKind uint8

const (
	word levelKind = iota
	variable
	anyOne
	anyRest
	variableRest
)

// captured are the values of a topic's named levels.
type captured struct {
	gear, field, measurement string
}

func (c *captured) add(name, value string) {
	to := &c.gear
	switch name {
	case "field":
		to = &c.field
	case "measurement":
		to = &c.measurement
	}
	if *to == "" {
		*to = value
	} else {
		*to += "/" + value
	}
}

// newPattern reads a pattern whose names are among those given.
func newPattern(text string, names ...string) (*pattern, error) {
	if text == "" {
		return nil, errors.New(`it is empty; it takes a topic as "sensors/{gear}/state"`)
	}
	if len(text) > 1024 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return nil, errors.New("it is over 1024 bytes, or not printable")
	}
	p := &pattern{text: text}
	parts := strings.Split(text, "/")
	for i, part := range parts {
		l, err := newLevel(part, names)
		if err != nil {
			return nil, err
		}
		if (l.kind == anyRest || l.kind == variableRest) && i != len(parts)-1 {
			return nil, fmt.Errorf("%q stands for all levels to the end and must be the last", part)
		}
		if l.name == "gear" {
			p.gears++
		}
		p.levels = append(p.levels, l)
	}
	return p, nil
}

func newLevel(part string, names []string) (level, error) {
	switch part {
	case "+":
		return level{kind: anyOne}, nil
	case "#":
		return level{kind: anyRest}, nil
	}
	open, end := strings.IndexByte(part, '{'), strings.IndexByte(part, '}')
	if open < 0 && end < 0 {
		if strings.ContainsAny(part, "+#") {
			return level{}, fmt.Errorf("%q: '+' and '#' must be a whole level", part)
		}
		return level{prefix: part}, nil
	}
	if open < 0 || end < open || strings.ContainsAny(part[:open]+part[end+1:], "{}+#") {
		return level{}, fmt.Errorf("%q is no level: it takes a word, \"{name}\", '+' or '#'", part)
	}
	l := level{kind: variable, name: part[open+1 : end], prefix: part[:open], suffix: part[end+1:]}
	if name, rest := strings.CutSuffix(l.name, "..."); rest {
		l.kind, l.name = variableRest, name
		if l.prefix+l.suffix != "" {
			return level{}, fmt.Errorf("%q: nothing may stand beside a name that ends with \"...\"", part)
		}
	}
	if !slices.Contains(names, l.name) {
		return level{}, fmt.Errorf("{%s} is none of the names {%s}", l.name, strings.Join(names, "}, {"))
	}
	return l, nil
}

// filter is the topic filter of all topics that match.
func (p *pattern) filter() string {
	parts := make([]string, len(p.levels))
	for i, l := range p.levels {
		switch l.kind {
		case word:
			parts[i] = l.prefix
		case variable, anyOne:
			parts[i] = "+"
		default:
			parts[i] = "#"
		}
	}
	return strings.Join(parts, "/")
}

// match a topic, and say what its named levels are. No name is empty.
func (p *pattern) match(topic string) (c captured, ok bool) {
	more := true
	for i := range p.levels {
		l := &p.levels[i]
		if l.kind == anyRest {
			return c, true
		}
		if !more {
			return c, false
		}
		if l.kind == variableRest {
			if topic == "" {
				return c, false
			}
			c.add(l.name, topic)
			return c, true
		}
		var part string
		part, topic, more = strings.Cut(topic, "/")
		switch l.kind {
		case word:
			if part != l.prefix {
				return c, false
			}
		case variable:
			if len(part) <= len(l.prefix)+len(l.suffix) || !strings.HasPrefix(part, l.prefix) || !strings.HasSuffix(part, l.suffix) {
				return c, false
			}
			c.add(l.name, part[len(l.prefix):len(part)-len(l.suffix)])
		}
	}
	return c, !more
}

// topic of the gear: the pattern, with the parts of its name in the levels
// {gear}. For patterns that are made of words and {gear} alone.
func (p *pattern) topic(gear string) (string, bool) {
	names := strings.Split(gear, "/")
	if len(names) != p.gears {
		return "", false
	}
	var b strings.Builder
	for i, l := range p.levels {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(l.prefix)
		if l.kind == variable {
			b.WriteString(names[0])
			b.WriteString(l.suffix)
			names = names[1:]
		}
	}
	return b.String(), true
}

// refusedOf adds the gear to a refusal.
func refusedOf(gear string, err error) error {
	var r *Refusal
	if errors.As(err, &r) && r.Gear == "" && len(gear) <= MaxGearBytes {
		r.Gear = gear
	}
	return err
}
