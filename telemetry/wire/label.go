package wire

import (
	"strings"
	"unicode/utf8"
)

// AppendLabel appends a label in the form of Entry.Labels, ",key=value", for
// InfluxDB to take as a tag. Labels are best appended in the order of their
// keys; each key at most once.
//
// A comma, an equals sign and a space are escaped with a backslash; any other
// backslash stands for itself. InfluxDB has no form for some texts, so a tag
// is nearly what the label is: a control character (line breaks among them) is
// stored as a space, invalid UTF-8 as U+FFFD, and backslashes at the end are
// left out, as they would escape what follows.
//
// Nothing is appended for a label without a value, which InfluxDB takes for an
// absent one, and for a key that is empty or ReservedColumn, which would make
// InfluxDB refuse every row of the device or hide the tag that names it.
func AppendLabel(dst []byte, key, value string) []byte {
	key, value = strings.TrimRight(key, `\`), strings.TrimRight(value, `\`)
	if key == "" || value == "" || ReservedColumn(key) {
		return dst
	}
	dst = append(dst, ',')
	dst = appendTagText(dst, key)
	dst = append(dst, '=')
	return appendTagText(dst, value)
}

func appendTagText(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r < ' ' || r == 0x7f || r == ' ':
			dst = append(dst, '\\', ' ')
		case r == ',' || r == '=':
			dst = append(dst, '\\', byte(r))
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}
