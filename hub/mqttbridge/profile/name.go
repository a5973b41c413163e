package profile

import (
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// Name makes a field or measurement name, [A-Za-z_][A-Za-z0-9_]{0,63}, of the
// parts, joined by '_': other characters become '_', a leading digit gets a
// '_' before it, what is too long is cut. The same parts always make the same
// name; different ones may make one name, which the caller has to tell.
func Name(parts ...string) string {
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte('_')
		}
		for _, r := range part {
			switch {
			case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_':
			case '0' <= r && r <= '9':
				if b.Len() == 0 {
					b.WriteByte('_')
				}
			default:
				r = '_'
			}
			if b.Len() == telemetry.MaxNameBytes {
				return b.String()
			}
			b.WriteRune(r)
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}
