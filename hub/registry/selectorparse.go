package registry

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of a selector.
const (
	MaxSelectorBytes = 4 << 10
	maxRequirements  = 64
	maxSelectorIn    = 256
)

// ParseSelector reads a selector, a list of requirements between commas:
//
//	key=value         the label is there with that value ("==" is the same)
//	key!=value        it is not, or has another value
//	key               it is there
//	!key              it is not
//	key in (a,b)      it has one of the values
//	key notin (a,b)   it is not there, or has none of the values
//
// A value with one of the characters , ( ) " \ = ! in it, or with spaces at
// its ends, and the empty value stand in double quotes, with \" and \\
// inside. The empty selector matches every device. Errors wrap ErrInvalid.
func ParseSelector(s string) (Selector, error) {
	if len(s) > MaxSelectorBytes {
		return Selector{}, fmt.Errorf("%w: a selector has at most %d bytes", ErrInvalid, MaxSelectorBytes)
	}
	if strings.TrimSpace(s) == "" {
		return Selector{}, nil
	}
	p := selectorParser{text: s}
	var requirements []requirement
	for {
		r, err := p.requirement()
		if err != nil {
			return Selector{}, fmt.Errorf("%w selector %q, at character %d: %w", ErrInvalid, s, p.at+1, err)
		}
		requirements = append(requirements, r)
		p.space()
		if p.done() {
			break
		}
		if !p.take(",") {
			return Selector{}, fmt.Errorf("%w selector %q, at character %d: a comma is missing before %q", ErrInvalid, s, p.at+1, p.rest())
		}
	}
	if len(requirements) > maxRequirements {
		return Selector{}, fmt.Errorf("%w selector: %d requirements; at most %d", ErrInvalid, len(requirements), maxRequirements)
	}
	return newSelector(requirements), nil
}

type selectorParser struct {
	text string
	at   int
}

func (p *selectorParser) done() bool   { return p.at >= len(p.text) }
func (p *selectorParser) rest() string { return p.text[p.at:] }

func (p *selectorParser) space() {
	p.at = len(p.text) - len(strings.TrimLeft(p.rest(), " \t"))
}

func (p *selectorParser) take(token string) bool {
	if strings.HasPrefix(p.rest(), token) {
		p.at += len(token)
		return true
	}
	return false
}

func (p *selectorParser) requirement() (requirement, error) {
	p.space()
	if p.take("!") {
		p.space()
		key, err := p.key()
		return requirement{key: key, operation: opAbsent}, err
	}
	key, err := p.key()
	if err != nil {
		return requirement{}, err
	}
	p.space()
	switch {
	case p.done() || strings.HasPrefix(p.rest(), ","):
		return requirement{key: key, operation: opExists}, nil
	case p.take("!="):
		return p.one(key, opNotIn)
	case p.take("=="), p.take("="):
		return p.one(key, opIn)
	case p.word("in"):
		return p.list(key, opIn)
	case p.word("notin"):
		return p.list(key, opNotIn)
	}
	return requirement{}, fmt.Errorf("after %q comes =, !=, in (…), notin (…) or a comma, not %q", key, p.rest())
}

// word takes a word that a space or parenthesis ends.
func (p *selectorParser) word(w string) bool {
	after, ok := strings.CutPrefix(p.rest(), w)
	if !ok || after == "" || !strings.ContainsRune(" \t(", rune(after[0])) {
		return false
	}
	p.at += len(w)
	return true
}

func (p *selectorParser) key() (string, error) {
	end := p.at
	for end < len(p.text) && isLabelKeyByte(p.text[end]) {
		end++
	}
	key := p.text[p.at:end]
	if key == "" {
		return "", fmt.Errorf("a label key is missing")
	}
	if !validLabelKey(key) {
		return "", fmt.Errorf("%q is no label key", key)
	}
	p.at = end
	return key, nil
}

func (p *selectorParser) one(key string, op operation) (requirement, error) {
	value, err := p.value(key)
	return requirement{key: key, operation: op, values: []string{value}}, err
}

func (p *selectorParser) list(key string, op operation) (requirement, error) {
	p.space()
	if !p.take("(") {
		return requirement{}, fmt.Errorf("values in parentheses are missing: %s in (a,b)", key)
	}
	var values []string
	for {
		value, err := p.value(key)
		if err != nil {
			return requirement{}, err
		}
		values = append(values, value)
		p.space()
		if p.take(")") {
			break
		}
		if !p.take(",") {
			return requirement{}, fmt.Errorf("the closing parenthesis is missing")
		}
	}
	if len(values) > maxSelectorIn {
		return requirement{}, fmt.Errorf("%d values in one list; at most %d", len(values), maxSelectorIn)
	}
	slices.Sort(values)
	return requirement{key: key, operation: op, values: slices.Compact(values)}, nil
}

func (p *selectorParser) value(key string) (string, error) {
	p.space()
	value, err := "", error(nil)
	if p.take(`"`) {
		value, err = p.quoted()
	} else {
		value = p.bare()
		if value == "" {
			err = fmt.Errorf(`the value of %q is missing; the empty value is %s=""`, key, key)
		}
	}
	if err != nil {
		return "", err
	}
	return value, checkLabelValue(key, value)
}

func (p *selectorParser) bare() string {
	end := strings.IndexAny(p.rest(), bareStops)
	if end < 0 {
		end = len(p.rest())
	}
	value := strings.TrimSpace(p.rest()[:end])
	p.at += end
	return value
}

func (p *selectorParser) quoted() (string, error) {
	var b strings.Builder
	for i := p.at; i < len(p.text); i++ {
		switch c := p.text[i]; c {
		case '"':
			p.at = i + 1
			return b.String(), nil
		case '\\':
			i++
			if i == len(p.text) || p.text[i] != '"' && p.text[i] != '\\' {
				return "", fmt.Errorf(`in quotes only \" and \\ may follow a backslash`)
			}
			b.WriteByte(p.text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("the closing quote is missing")
}
