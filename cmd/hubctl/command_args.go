package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// maxPayload is what the API takes.
const maxPayload = 16 << 10

// maxJSONInput is read of a file with arguments, whose blanks do not count.
const maxJSONInput = 4 * maxPayload

const argsText = `Arguments become one JSON object. In --arg key=value a value that is JSON (a
number, true, false, null, an object, an array or a text in double quotes)
stands for itself, and any other is a text: on=true is a boolean, speed=fast a
text, and code='"007"' or code=007 a text too. --arg key:=json insists on JSON.
--json takes the whole object, @FILE or @- reads it.`

// argsObject puts --arg pairs together, in the order given.
func argsObject(pairs []string) (string, error) {
	if len(pairs) == 0 {
		return "", nil
	}
	var b bytes.Buffer
	seen := map[string]bool{}
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
		raw := []byte(strings.TrimSpace(text))
		if !json.Valid(raw) {
			if strict {
				return "", usagef("--arg %s: %q is not JSON", key, text)
			}
			raw = quoted(text)
		}
		b.WriteByte("{,"[min(i, 1)])
		b.Write(quoted(key))
		b.WriteByte(':')
		b.Write(raw)
	}
	b.WriteByte('}')
	return b.String(), nil
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
