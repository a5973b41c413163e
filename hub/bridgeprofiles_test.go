package hub_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// sampleProfiles takes in what the samples have. A topic is the first one's
// that wants it; the zone has no summer time, as the samples are moved in time.
const sampleProfiles = `    profiles:
      - {kind: homeassistant, auto-allow: ["*"], id-prefix: ha-}
      - kind: raw
        auto-allow: ["*"]
        settings:
          topics: ["{gear}/sensor/{field}/state", "{gear}/switch/{field}/state", "{gear}/text_sensor/{field}/state"]
          availability: {topic: "{gear}/status"}
          fields:
            - {field: livingroom_temperature, name: temperature, unit: "°C"}
            - {field: livingroom_humidity, unit: "%", type: integer}
            - {field: desk_lamp, type: bool}
            - {field: firmware, type: text}
      - kind: json
        auto-allow: ["*"]
        settings:
          topic: "rtl_433/+/devices/{gear}/{gear}/{gear}"
          time: {path: time, format: "2006-01-02 15:04:05", zone: Africa/Maputo}
          omit: [model, id, channel]
          fields: [{path: temperature_C, name: temperature, unit: Cel}, {path: battery_ok, type: bool}]
      - {kind: influx, auto-allow: ["*"], settings: {topic: "telegraf/{gear}/#"}}
      - {kind: tasmota, auto-allow: ["*"], settings: {zone: UTC}}
      - {kind: zigbee2mqtt, auto-allow: ["*"]}
      - {kind: homie, auto-allow: ["*"]}
      - {kind: sparkplug, auto-allow: ["*"]}
      - {kind: shelly, auto-allow: ["*"]}
`

// What real gear sends, as its documentation has it, arrives as the right
// devices with the right fields, types, units and times, whichever the broker.
// A restart, at which the broker sends what it retains, adds no row.
func TestBridgeTakesWhatRealGearSends(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/bridgesamples.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(golden)), "\n")
	onBothBrokers(t, func(t *testing.T, s *site) {
		cfg := hubtest.Config(t)
		cfg.LogLevel, cfg.RetentionAge = "error", 0 // some of the samples are years old
		s.bridge(t, &cfg, sampleProfiles)
		h := hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		began := time.Now()
		gear := s.endpoint(t).Dial(t, "gear")
		want := want
		if s.embedded() { // it has no topics with white space
			want = strings.Split(strings.ReplaceAll(strings.Join(want, "\n"), "Sparkplug B Devices/Raspberry Pi", "Sparkplug-B-Devices/Raspberry-Pi"), "\n")
		}
		for _, file := range sampleFiles {
			for _, m := range sampleMessages(t, file) {
				if s.embedded() {
					m.topic = strings.ReplaceAll(m.topic, " ", "-")
				}
				mqtttest.Publish(t, gear, m.topic, 1, m.retained, m.payload)
			}
		}
		wantPicture(t, h.Endpoint, want, began)
		if b := barn(t, h.Endpoint); b.UnknownGear != 0 || b.LostQos0 != 0 || b.Refused != 0 {
			t.Errorf("%v", b)
		}
		if err := h.Stop(); err != nil {
			t.Fatal(err)
		}
		h = hubtest.Start(t, cfg)
		connected(t, h.Endpoint)
		mqtttest.Publish(t, s.endpoint(t).Dial(t, "gear"), "last/sensor/word/state", 1, false, "1")
		hubtest.Eventually(t, "the broker has sent everything", func() bool {
			return len(picture(t, h.Endpoint, "last", began)) > 1
		})
		// What gear tells of itself is told again; when it is saved with
		// something new, the rest is as it was.
		mqtttest.Publish(t, s.endpoint(t).Dial(t, "gear"), "homie/super-car/$fw/version", 1, true, "1.0.1")
		wantPicture(t, h.Endpoint, strings.Split(strings.ReplaceAll(strings.Join(want, "\n"), "of homie, 1.0.0", "of homie, 1.0.1"), "\n"), began)
	})
}

// wantPicture waits until the hub shows what is wanted of all devices, but for
// "last". Descriptions of a device, with the units, are saved every ten seconds
// at most.
func wantPicture(t *testing.T, h hubtest.Endpoint, want []string, began time.Time) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(hubtest.Patience / 2); ; time.Sleep(100 * time.Millisecond) {
		got = nil
		for _, d := range must(h.Devices.ListDevices(t.Context(), connect.NewRequest(&operatorv1.ListDevicesRequest{PageSize: 1000})))(t).Msg.Devices {
			if d.Id != "last" {
				got = append(got, picture(t, h, d.Id, began)...)
			}
		}
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("not wanted: %s", line)
		}
	}
	if !t.Failed() {
		t.Error("the lines are in another order")
	}
}

// picture is what the operator API shows of a device: a line of itself, a line
// of each field, a line of each row.
func picture(t *testing.T, h hubtest.Endpoint, id string, began time.Time) (lines []string) {
	t.Helper()
	answer, err := h.Devices.GetDevice(t.Context(), connect.NewRequest(&operatorv1.GetDeviceRequest{Id: id}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	d := must(answer, err)(t).Msg.Device
	self := fmt.Sprintf("%s is %s %s of %s", id, d.Kind, d.Gear.GetName(), d.Gear.GetProfile())
	if f := d.Description.GetFirmware(); f != "" {
		self += ", " + f
	}
	lines = append(lines, self)
	measurements := make(map[string]bool)
	for _, f := range must(h.Telemetry.ListFields(t.Context(), connect.NewRequest(&operatorv1.ListFieldsRequest{DeviceId: id})))(t).Msg.Fields {
		kind := strings.ToLower(strings.TrimPrefix(f.Kind.String(), "FIELD_KIND_"))
		lines = append(lines, fmt.Sprintf("%s has %s.%s %s [%s]", id, f.Measurement, f.Name, kind, f.Unit))
		measurements[f.Measurement] = true
	}
	slices.Sort(lines[1:])
	fields := len(lines)
	for m := range measurements {
		rows := must(h.Telemetry.Query(t.Context(), connect.NewRequest(&operatorv1.QueryRequest{DeviceId: id, Measurement: m})))(t).Msg.Rows
		for _, row := range rows {
			at := "on arrival"
			if when := row.Time.AsTime(); when.Before(began) || when.After(time.Now()) {
				if m == "tasmota" { // it tells the second, and the rest is of the arrival
					when = when.Truncate(time.Second)
				}
				at = ago(when)
			}
			var values []string
			for name, v := range row.Values {
				values = append(values, name+"="+plainValue(v))
			}
			slices.Sort(values)
			lines = append(lines, fmt.Sprintf("%s said %s %s: %s", id, m, at, strings.Join(values, " ")))
		}
	}
	slices.Sort(lines[fields:])
	return lines
}

// plainValue tells the types apart.
func plainValue(v *operatorv1.Value) string {
	switch v := v.Value.(type) {
	case *operatorv1.Value_DoubleValue:
		return fmt.Sprintf("double(%v)", v.DoubleValue)
	case *operatorv1.Value_IntValue:
		return fmt.Sprintf("int(%v)", v.IntValue)
	case *operatorv1.Value_BoolValue:
		return fmt.Sprintf("%v", v.BoolValue)
	case *operatorv1.Value_StringValue:
		return fmt.Sprintf("%q", v.StringValue)
	}
	return "nothing"
}
