package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// maxPayload is what the API takes.
const maxPayload = 16 << 10

// maxJSONInput is read of a file with arguments, whose blanks do not count.
const maxJSONInput = 4 * maxPayload

const argsText = `Arguments become one JSON object. In --arg key=value a value that is JSON (a
number, true, false, null, an object, an array or a text in double quotes)
stands for itself, and any other is a text: on=true is a boolean, speed=fast a
text, and code='"007"' or code=007 a text too. --arg key:=json insists on JSON.
--arg key=@FILE takes the file's content as a text, whatever it looks like, and
key:=@FILE as JSON; @- is stdin, and a text that begins with @ is written @@.
--json takes the whole object, @FILE or @- reads it.`

// argsObject puts --arg pairs together, in the order given.
func (a *app) argsObject(pairs []string) (string, error) {
	if len(pairs) == 0 {
		return "", nil
	}
	var b bytes.Buffer
	seen := map[string]bool{}
	stdin := ""
	for i, pair := range pairs {
		key, text, ok := strings.Cut(pair, "=")
		strict := strings.HasSuffix(key, ":")
		key = strings.TrimSuffix(key, ":")
		if !ok || key == "" {
			return "", usagef("--arg %q: write key=value or key:=json", pair)
		}
		if seen[key] {
			return "", usagef("--arg %s is given twice", key)
		}
		seen[key] = true
		if text == "@-" {
			if stdin != "" {
				return "", usagef("--arg %s: @- is read for %s already", key, stdin)
			}
			stdin = key
		}
		raw, err := a.argValue(key, text, strict)
		if err != nil {
			return "", err
		}
		b.WriteByte("{,"[min(i, 1)])
		b.Write(quoted(key))
		b.WriteByte(':')
		b.Write(raw)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// argValue is the value of one argument as JSON; strict: it has to be JSON.
func (a *app) argValue(key, text string, strict bool) ([]byte, error) {
	name, file := strings.CutPrefix(text, "@")
	literal, at := strings.CutPrefix(name, "@")
	switch {
	case file && at && !strict:
		return quoted("@" + literal), nil
	case file:
		content, err := a.argFile(key, text)
		if err != nil || !strict {
			return quoted(content), err
		}
		text = content
	}
	raw := []byte(strings.TrimSpace(text))
	switch {
	case json.Valid(raw) && file: // its blanks do not count
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return nil, usageError{err}
		}
		return b.Bytes(), nil
	case json.Valid(raw):
		return raw, nil
	case strict && file:
		return nil, usagef("--arg %s: %s has no JSON", key, name)
	case strict:
		return nil, usagef("--arg %s: %q is not JSON", key, text)
	}
	return quoted(text), nil
}

// argFile reads what --arg key=@FILE names.
func (a *app) argFile(key, value string) (string, error) {
	if value == "@" {
		return "", usagef("--arg %s=@: name a file behind @, or - for stdin; a text that begins with @ is written @@", key)
	}
	content, err := a.readInput(value, maxJSONInput)
	switch {
	case errors.Is(err, errLongInput):
		return "", payloadTooLong("more than " + number(int(maxJSONInput)))
	case errors.Is(err, fs.ErrNotExist):
		return "", usagef("--arg %s: there is no file %q; a text that begins with @ is written @@: --arg '%s=@%s'", key, value[1:], key, value)
	case err != nil:
		return "", usagef("--arg %s: %w", key, err)
	case !utf8.Valid(content):
		return "", usagef("--arg %s: %s is not text (UTF-8), which is all that JSON can carry; encode it as the device expects, such as base64", key, value[1:])
	}
	return string(content), nil
}

func quoted(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return bytes.TrimSpace(b.Bytes())
}

// jsonObject checks that raw is one JSON object, and takes its blanks out.
func jsonObject(raw []byte) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	var object map[string]json.RawMessage
	if err := dec.Decode(&object); err != nil || object == nil {
		return "", usagef("--json: one JSON object is expected, as {\"on\":true}")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", usagef("--json: there is more behind the object")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return "", usageError{err}
	}
	return b.String(), nil
}
