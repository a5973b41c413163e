package wire

import "unicode/utf8"

// AppendLabel appends a label in the form of Entry.Labels, ",key=value", for
// InfluxDB to take as a tag. Labels are best appended in the order of their
// keys; each key at most once.
//
// A comma, an equals sign and a space are escaped with a backslash; any other
// backslash stands for itself. InfluxDB has no form for some texts, so a tag
// is nearly what the label is: a control character (line breaks among them) is
// stored as a space, invalid UTF-8 as U+FFFD, and backslashes are left out at
// the end and before a comma, an equals sign or a space. There the scanners of
// the server disagree on what is escaped, and a line with such a tag can
// swallow the lines behind it (1.8 models/points.go: scanLine goes over
// backslashes in pairs, scanTagsValue looks one byte back).
//
// Nothing is appended for a label without a value, which InfluxDB takes for an
// absent one, and for a key that is empty or ReservedColumn, which would make
// InfluxDB refuse every row of the device or hide the tag that names it.
func AppendLabel(dst []byte, key, value string) []byte {
	before := len(dst)
	dst = append(dst, ',')
	start := len(dst)
	dst = appendTagText(dst, key)
	if len(dst) == start || ReservedColumn(string(dst[start:])) {
		return dst[:before]
	}
	dst = append(dst, '=')
	start = len(dst)
	dst = appendTagText(dst, value)
	if len(dst) == start {
		return dst[:before]
	}
	return dst
}

func appendTagText(dst []byte, s string) []byte {
	backslashes := 0 // behind which it is not known yet what comes
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		switch r {
		case '\\':
			backslashes++
			continue
		case ' ', ',', '=':
			dst = append(dst, '\\', byte(r))
		default:
			for range backslashes {
				dst = append(dst, '\\')
			}
			dst = utf8.AppendRune(dst, r)
		}
		backslashes = 0
	}
	return dst
}
