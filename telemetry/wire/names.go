package wire

import (
	"fmt"

	"github.com/tetherline/tetherline/telemetry"
)

// reservedColumn reports whether no column can have this name, and why:
//
//   - InfluxDB drops a field "time" silently and stores the rest of the row
//     (1.8 tsdb/shard.go: "Skip fields named "time". They are illegal.").
//   - Flux keeps the columns "_time" to "_value" in its tables; a row put
//     together by pivot would have two columns of one name.
//   - A field "device" beside the tag "device" hides one of them in InfluxQL,
//     and collides with the group key in Flux.
//
// All are exact and in lower case; any other name that begins with "_" is
// ordinary to the stores. No measurement is reserved: its name is a value,
// never a column.
func reservedColumn(name string) (why string, reserved bool) {
	switch name {
	case "time":
		return "it is the time of a row in InfluxDB", true
	case "device":
		return "it is the tag that names the device", true
	case "_time", "_start", "_stop", "_measurement", "_field", "_value":
		return "it is a column of every Flux table", true
	}
	return "", false
}

// ReservedColumn reports whether no column may have this name though it is
// well formed. As a label such a name is left out by AppendLabel.
func ReservedColumn(name string) bool {
	_, reserved := reservedColumn(name)
	return reserved
}

// CheckColumnName returns nil, or an error that says why no column can have
// this name.
func CheckColumnName(name string) error {
	if !validName([]byte(name)) {
		return fmt.Errorf("column %s: %s", quote(name), nameRule)
	}
	if why, reserved := reservedColumn(name); reserved {
		return fmt.Errorf("column %s is reserved: %s", quote(name), why)
	}
	return nil
}

// CheckMeasurementName returns nil, or an error that says why no series can
// have this name; "" is one.
func CheckMeasurementName(name string) error {
	if name != "" && !validName([]byte(name)) {
		return fmt.Errorf("measurement %s: %s", quote(name), nameRule)
	}
	return nil
}

const nameRule = "a name is a letter or '_', then up to 63 letters, digits or '_'"

// quote a name for a detail, cut to a length that no peer can choose.
func quote[T string | []byte](name T) string {
	const most = telemetry.MaxNameBytes + 1
	if len(name) > most {
		return fmt.Sprintf("%+q...", name[:most])
	}
	return fmt.Sprintf("%+q", name)
}

// nameBytes is 1 for what may stand anywhere in a name, 2 for what may stand
// anywhere but first.
var nameBytes = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = 1, 1
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = 2
	}
	t['_'] = 1
	return t
}()

func validName(name []byte) bool {
	if len(name) == 0 || len(name) > telemetry.MaxNameBytes || nameBytes[name[0]] != 1 {
		return false
	}
	for _, c := range name {
		if nameBytes[c] == 0 {
			return false
		}
	}
	return true
}
