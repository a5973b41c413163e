package mqttbridge

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// maxIDBytes of a device id.
const maxIDBytes = 64

// deviceID is the id that gear gets by default: its name with other
// characters as '-', behind the prefix. Different gear may make one id. It does
// not begin with '-', which command lines take for a flag.
func deviceID(prefix, gear string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, r := range gear {
		if b.Len() == maxIDBytes {
			break
		}
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	if id := b.String(); strings.HasPrefix(id, "-") {
		return "_" + id[1:]
	}
	return b.String()
}

// checkGearName returns what is wrong with a name of gear; nil: nothing.
func checkGearName(name string) error {
	if name == "" || len(name) > profile.MaxGearBytes || !printable(name) {
		return fmt.Errorf("gear %.80q has no name of 1 to %d printable bytes", name, profile.MaxGearBytes)
	}
	return nil
}

// printable reports whether s is UTF-8 of graphic characters and spaces, as
// the registry wants names.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// globMatches reports whether a glob ('*': any characters, '?': one) matches
// all of name. Its time grows with the product of their lengths at most.
func globMatches(glob, name string) bool {
	star, mark := -1, 0
	i := 0
	for n := 0; n < len(name); {
		_, size := utf8.DecodeRuneInString(name[n:])
		switch {
		case i < len(glob) && glob[i] == '*':
			star, mark = i, n
			i++
		case i < len(glob) && glob[i] == '?':
			i++
			n += size
		case i < len(glob) && glob[i] == name[n]:
			i++
			n++
		case star >= 0:
			i = star + 1
			mark++
			n = mark
		default:
			return false
		}
	}
	for i < len(glob) && glob[i] == '*' {
		i++
	}
	return i == len(glob)
}
