package firmwaresim

import (
	"testing"
	"time"
)

// Devices that are late to come back are no leak of goroutines or descriptors;
// what grows beside them is.
func TestTrendsLeaveDevicesOut(t *testing.T) {
	for name, leak := range map[string]float64{"": 0, "goroutines": 4} {
		w := new(hubWatch)
		for i := range 100 {
			devices := min(200, 10*max(0, float64(i)-15)) // some time after the warm-up
			if i > 30 && i < 35 {
				devices = 20 // a link is dead
			}
			w.samples = append(w.samples, hubSample{
				at: time.Duration(i) * time.Second, connections: devices, rss: 1 << 26, heap: 1 << 25,
				goroutines: 96 + devices + leak*float64(i), descriptors: 20 + devices,
			})
		}
		trends, over := w.trends()
		if over < longEnough {
			t.Fatalf("watched for %v", over)
		}
		for _, q := range trends {
			if q.grown != (q.Name == name) {
				t.Errorf("with %q leaking: %s from %.0f to %.0f: grown is %v", name, q.Name, q.Early, q.Late, q.grown)
			}
		}
	}
}
