package mqttbridge

import "testing"

func TestDeviceIDOfGear(t *testing.T) {
	for _, tc := range []struct{ prefix, gear, want string }{
		{"", "plug-1", "plug-1"},
		{"", "a b/c", "a-b-c"},
		{"", "$SYS", "_SYS"}, // a command line would take "-SYS" for a flag
		{"", "-", "_"},
		{"z-", "$SYS", "z--SYS"},
	} {
		if got := deviceID(tc.prefix, tc.gear); got != tc.want {
			t.Errorf("%q %q: %q, want %q", tc.prefix, tc.gear, got, tc.want)
		}
	}
}
