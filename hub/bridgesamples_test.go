package hub_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	sparkplugv1 "github.com/tetherline/tetherline/proto/sparkplug/v1"
)

// sampleFolder holds messages of real gear as its public documentation has
// them, each file with its source. The unit tests of the profiles read it too.
const sampleFolder = "mqttbridge/profile/testdata"

// samplePayload is one message of gear.
type samplePayload struct {
	topic    string
	payload  []byte
	retained bool
}

// sampleMessages are those of a file, a folder's in the order that gear sends
// them.
func sampleMessages(t *testing.T, file string) (messages []samplePayload) {
	t.Helper()
	if kind, name, _ := strings.Cut(file, "/"); kind == "sparkplug" {
		return []samplePayload{sparkplugSample(t, name)}
	}
	text, err := os.ReadFile(filepath.Join(sampleFolder, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3); len(parts) == 3 {
			messages = append(messages, samplePayload{parts[1], []byte(ofLate(parts[2])), parts[0] == "retained"})
		}
	}
	return messages
}

// lateBy is added to the times in the samples, which are from 2016 to 2021: the
// hub takes those of the last ten years. It is whole days.
var lateBy = time.Since(time.Date(2021, 9, 20, 0, 0, 0, 0, time.UTC)).Truncate(24 * time.Hour)

var (
	sampleDates   = regexp.MustCompile(`20\d\d([-.])\d\d[-.]\d\d([T ])\d\d:\d\d:\d\d`)
	sampleNanos   = regexp.MustCompile(`\b1[45]\d{17}\b`)
	sampleSeconds = regexp.MustCompile(`"(?:ts|Epoch)": ?1\d{9}`)
)

// ofLate adds lateBy to all times in a payload.
func ofLate(payload string) string {
	payload = sampleDates.ReplaceAllStringFunc(payload, func(s string) string {
		m := sampleDates.FindStringSubmatch(s)
		layout := "2006" + m[1] + "01" + m[1] + "02" + m[2] + "15:04:05"
		at, err := time.Parse(layout, s)
		if err != nil {
			panic(err)
		}
		return at.Add(lateBy).Format(layout)
	})
	add := func(s string, by int64) string {
		i := strings.LastIndexAny(s, ": ") + 1
		n, err := strconv.ParseInt(s[i:], 10, 64)
		if err != nil {
			panic(err)
		}
		return s[:i] + strconv.FormatInt(n+by, 10)
	}
	payload = sampleNanos.ReplaceAllStringFunc(payload, func(s string) string { return add(s, int64(lateBy)) })
	return sampleSeconds.ReplaceAllStringFunc(payload, func(s string) string { return add(s, int64(lateBy/time.Second)) })
}

// sparkplugSample is a message that the specification of Sparkplug shows as
// JSON, in protobuf.
func sparkplugSample(t *testing.T, name string) samplePayload {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sampleFolder, "sparkplug", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Topic   string
		Payload struct {
			Timestamp uint64
			Seq       *uint64
			Metrics   []struct {
				Name, DataType string
				Timestamp      uint64
				Value          any
			}
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	late := func(ms uint64) *uint64 { return proto.Uint64(ms + uint64(lateBy/time.Millisecond)) }
	p := &sparkplugv1.Payload{Timestamp: late(file.Payload.Timestamp), Seq: file.Payload.Seq}
	for _, m := range file.Payload.Metrics {
		metric := &sparkplugv1.Payload_Metric{Name: &m.Name, Timestamp: late(m.Timestamp), Datatype: proto.Uint32(uint32(sparkplugv1.DataType_value[m.DataType]))}
		switch m.DataType {
		case "Boolean":
			metric.Value = &sparkplugv1.Payload_Metric_BooleanValue{BooleanValue: m.Value.(bool)}
		case "String":
			metric.Value = &sparkplugv1.Payload_Metric_StringValue{StringValue: m.Value.(string)}
		case "Int64", "UInt64":
			metric.Value = &sparkplugv1.Payload_Metric_LongValue{LongValue: uint64(m.Value.(float64))}
		case "Double":
			metric.Value = &sparkplugv1.Payload_Metric_DoubleValue{DoubleValue: m.Value.(float64)}
		case "Float":
			metric.Value = &sparkplugv1.Payload_Metric_FloatValue{FloatValue: float32(m.Value.(float64))}
		default:
			metric.Value = &sparkplugv1.Payload_Metric_IntValue{IntValue: uint32(int32(m.Value.(float64)))}
		}
		p.Metrics = append(p.Metrics, metric)
	}
	payload, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return samplePayload{topic: file.Topic, payload: payload}
}

// sampleFiles are all, in the order in which they are published.
var sampleFiles = []string{
	"raw/esphome.txt", "json/rtl_433.txt", "influx/lines.txt", "tasmota/mqtt.txt", "tasmota/state.txt", "tasmota/status.txt",
	"zigbee2mqtt/devices.txt", "zigbee2mqtt/messages.txt", "homie/v3.txt", "homie/v4.txt", "homie/v5.txt",
	"homeassistant/discovery.txt", "shelly/gen1.txt", "shelly/gen2.txt",
	"sparkplug/nbirth", "sparkplug/dbirth", "sparkplug/ndata", "sparkplug/ddata", "sparkplug/ddeath", "sparkplug/ndeath",
}

// samplesToHosts are not of gear but to it.
var samplesToHosts = []string{"sparkplug/ncmd", "sparkplug/dcmd"}

// Every file of samples is published by the tests.
func TestBridgeSamplesAreAllThere(t *testing.T) {
	var files []string
	found, err := filepath.Glob(sampleFolder + "/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		name, _ := filepath.Rel(sampleFolder, f)
		files = append(files, strings.TrimSuffix(filepath.ToSlash(name), ".json"))
	}
	want := slices.Concat(sampleFiles, samplesToHosts)
	slices.Sort(want)
	if slices.Sort(files); !slices.Equal(files, want) {
		t.Errorf("the samples are %v; published are %v", files, want)
	}
}

// ago is a time of a sample as the sample has it.
func ago(at time.Time) string { return fmt.Sprint(at.Add(-lateBy).UTC().Format(time.RFC3339Nano)) }
