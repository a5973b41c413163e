package hub_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/hub/hubtest"
	"github.com/tetherline/tetherline/hub/mqtttest"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

var (
	bridgeTime     = flag.Duration("bridge.time", 10*time.Second, "of each load of BenchmarkBridgeCost")
	bridgeRates    = flag.String("bridge.rates", "2000,10000", "messages a second of the loads of BenchmarkBridgeCost")
	bridgeTelegraf = flag.String("bridge.telegraf", "", "Telegraf's binary, for BenchmarkBridgeCost to compare with; \"none\": the hub alone")
)

const bridgeGear = 200

// BenchmarkBridgeCost is the CPU time that a message of 10 values takes on its way
// from a broker to InfluxDB: through the hub's MQTT bridge, where it is
// fsynced before it is acknowledged, and through Telegraf's mqtt_consumer,
// which keeps it in memory. Both subscribe at QoS 1 with a persistent session
// on the same Mosquitto and write into the same InfluxDB, one after the other
// with the same load. Gear is a process of its own that publishes at a fixed
// rate, whatever becomes of its messages. Each load ends when InfluxDB holds
// all of it. Run it with `make bench-bridge`.
func BenchmarkBridgeCost(b *testing.B) {
	if *bridgeTelegraf == "" {
		b.Fatal("-bridge.telegraf is not given: run `make bench-bridge`, which installs Telegraf; \"none\" measures the hub alone")
	}
	bench := newBridgeBench(b)
	takers := []bridgeTaker{bench.hub(b)}
	if *bridgeTelegraf != "none" {
		takers = append(takers, bench.telegraf(b, "json"), bench.telegraf(b, "json_v2"))
	}
	for _, t := range takers {
		bench.load(b, t, 10*bridgeGear, 10*bridgeGear) // all gear is known, all is warm
	}
	for _, text := range strings.Split(*bridgeRates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		bench.compare(b, takers, rate)
	}
	b.ReportMetric(0, "ns/op")
}

// bridgeBench is what all takers share.
type bridgeBench struct {
	broker *mqtttest.Broker
	db     *influxtest.Server
}

// bridgeTaker takes messages of its own topics from the broker to InfluxDB.
type bridgeTaker struct {
	name        string
	prefix      string // of its topics
	measurement string // of its rows
	pid         int
}

// bridgeCost is the CPU time of a load.
type bridgeCost struct {
	taker, broker time.Duration
	late          time.Duration // from the last message published to all stored
}

func newBridgeBench(b *testing.B) *bridgeBench {
	return &bridgeBench{
		// With Mosquitto's own 20 in flight, whoever acknowledges late is
		// not busy but waits.
		broker: mqtttest.StartMosquitto(b, mqtttest.MosquittoOptions{MaxInflight: 20_000}),
		db:     influxtest.Start(b),
	}
}

func (s *bridgeBench) hub(b *testing.B) bridgeTaker {
	config := filepath.Join(b.TempDir(), "bridge.yaml")
	writeFile(b, config, fmt.Appendf(nil, `brokers:
  - name: bench
    url: %s
    profiles:
      - kind: json
        settings: {topic: "hub/{gear}/state"}
        auto-allow: ["*"]
`, s.broker.URL))
	cfg := processConfig(b)
	cfg.InfluxURL, cfg.InfluxBucket, cfg.MQTTBridge = s.db.URL, s.db.Bucket, config
	h := hubtest.StartProcess(b, cfg)
	b.Cleanup(func() {
		if err := h.Terminate(); err != nil {
			b.Errorf("the hub ends with %v", err)
		}
	})
	return bridgeTaker{"hub", "hub", "json", h.PID()}
}

// telegraf runs Telegraf with one of its parsers of JSON. Its settings are its
// defaults but for: the persistent session at QoS 1; max_undelivered_messages
// and metric_buffer_limit, raised so that it never waits for itself; no host
// tag; and no compression of what it sends to a database on the same machine,
// which the hub does not do either.
func (s *bridgeBench) telegraf(b *testing.B, parser string) bridgeTaker {
	t := bridgeTaker{name: "telegraf, " + parser, prefix: "telegraf-" + parser, measurement: "telegraf_" + parser}
	format := `data_format = "json"`
	if parser == "json_v2" {
		format = "data_format = \"json_v2\"\n  [[inputs.mqtt_consumer.json_v2]]\n    [[inputs.mqtt_consumer.json_v2.object]]\n      path = \"@this\""
	}
	config := filepath.Join(b.TempDir(), "telegraf.conf")
	writeFile(b, config, fmt.Appendf(nil, `[agent]
  omit_hostname = true
  metric_buffer_limit = 100000
[[inputs.mqtt_consumer]]
  servers = [%q]
  topics = ["%s/+/state"]
  qos = 1
  persistent_session = true
  client_id = %q
  max_undelivered_messages = 50000
  name_override = %q
  %s
[[outputs.influxdb_v2]]
  urls = [%q]
  token = "none"
  organization = %q
  bucket = %q
  content_encoding = "identity"
`, s.broker.URL, t.prefix, t.prefix, t.measurement, format, s.db.URL, s.db.Org, s.db.Bucket))
	cmd := exec.Command(*bridgeTelegraf, "--config", config)
	log, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("start Telegraf: %v; `make bench-bridge` installs it", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	t.pid = cmd.Process.Pid
	awaitTelegraf(b, log)
	return t
}

// awaitTelegraf reads its log until it has subscribed, and on, so that it
// never waits for a reader.
func awaitTelegraf(b *testing.B, log io.Reader) {
	connected := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(log)
		said := ""
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Connected") {
				connected <- true
				break
			}
			said = lines.Text()
		}
		if len(connected) == 0 {
			fmt.Fprintln(os.Stderr, "telegraf:", said)
		}
		_, _ = io.Copy(io.Discard, log)
	}()
	select {
	case <-connected:
	case <-time.After(hubtest.Patience):
		b.Fatal("Telegraf has not connected")
	}
}

// compare all takers under one load, there and back again, so that what the
// machine does beside it meets all of them.
func (s *bridgeBench) compare(b *testing.B, takers []bridgeTaker, rate int) {
	messages := int(float64(rate) * bridgeTime.Seconds() / 2)
	costs := make([]bridgeCost, len(takers))
	add := func(i int) {
		c := s.load(b, takers[i], messages, rate)
		costs[i].taker += c.taker
		costs[i].broker += c.broker
		costs[i].late += c.late / 2
	}
	for i := range takers {
		add(i)
	}
	for i := range takers {
		add(len(takers) - 1 - i)
	}
	b.Logf("%d messages a second of 10 values each, QoS 1, %d pieces of gear, %v", rate, bridgeGear, *bridgeTime)
	micros := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(2*messages) }
	best := 0.0
	for i, t := range takers {
		b.Logf("%-20s %6.1f µs of CPU a message, the broker's own %5.1f; all stored %v after the last", t.name,
			micros(costs[i].taker), micros(costs[i].broker), costs[i].late.Round(10*time.Millisecond))
		if i > 0 && (best == 0 || micros(costs[i].taker) < best) {
			best = micros(costs[i].taker)
		}
	}
	b.ReportMetric(micros(costs[0].taker), fmt.Sprintf("hub-µs/msg-at-%d", rate))
	if best > 0 {
		b.ReportMetric(best, fmt.Sprintf("telegraf-µs/msg-at-%d", rate))
		b.ReportMetric(micros(costs[0].taker)/best, fmt.Sprintf("of-telegraf-at-%d", rate))
	}
}

// load has gear publish, and waits until InfluxDB holds it.
func (s *bridgeBench) load(b *testing.B, t bridgeTaker, messages, rate int) (c bridgeCost) {
	b.Helper()
	before := s.stored(b, t)
	taker, broker := cpuTime(t.pid), cpuTime(s.broker.PID())
	gear := play(b, "gear", gearLoad{URL: s.broker.URL, Prefix: t.prefix, Gear: bridgeGear, Messages: messages, Rate: rate})
	gear.await("published")
	done := time.Now()
	gear.end()
	hubtest.Eventually(b, fmt.Sprintf("InfluxDB has %d rows more from %s", messages, t.name), func() bool {
		if time.Since(done) > time.Second {
			time.Sleep(200 * time.Millisecond) // that the question costs nothing that matters
		}
		return s.stored(b, t) >= before+int64(messages)
	})
	if n := s.stored(b, t) - before; n != int64(messages) {
		b.Fatalf("InfluxDB has %d rows from %s for %d messages", n, t.name, messages)
	}
	return bridgeCost{cpuTime(t.pid) - taker, cpuTime(s.broker.PID()) - broker, time.Since(done)}
}

func (s *bridgeBench) stored(b *testing.B, t bridgeTaker) (n int64) {
	var answer struct {
		Results []struct {
			Series []struct{ Values [][2]int64 }
		}
	}
	if err := json.Unmarshal(s.db.Query(fmt.Sprintf(`SELECT COUNT("f0") FROM %q`, t.measurement)), &answer); err != nil {
		b.Fatal(err)
	}
	if series := answer.Results[0].Series; len(series) == 1 && len(series[0].Values) == 1 {
		n = series[0].Values[0][1]
	}
	return n
}

// gearLoad is gear that publishes documents of 10 numbers at PREFIX/gear-n/state.
type gearLoad struct {
	URL      string
	Prefix   string
	Gear     int
	Messages int
	Rate     int // messages a second of all gear together
}

// gearRole publishes and says "published" when the broker has all of it.
func gearRole(argument string) error {
	var a gearLoad
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(a.URL).SetClientID("gear").SetOrderMatters(false))
	if err := patient(client.Connect()); err != nil {
		return err
	}
	defer client.Disconnect(100)
	if err := a.publish(context.Background(), client); err != nil {
		return err
	}
	if err := say(bufio.NewReader(os.Stdin), "published"); err != io.EOF { // it is told to end
		return err
	}
	return nil
}

// mostUnacknowledged bounds what the broker has not acknowledged to gear, far
// above what it ever is.
const mostUnacknowledged = 10_000

func (a *gearLoad) publish(ctx context.Context, client mqtt.Client) error {
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	var waiting []mqtt.Token
	start := time.Now()
	for sent := 0; sent < a.Messages; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		for due := int(time.Since(start).Seconds() * float64(a.Rate)); sent < min(due, a.Messages); sent++ {
			topic := fmt.Sprintf("%s/gear-%03d/state", a.Prefix, sent%a.Gear)
			waiting = append(waiting, client.Publish(topic, 1, false, a.document(sent)))
		}
		for len(waiting) > mostUnacknowledged {
			if err := patient(waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
	}
	for _, token := range waiting {
		if err := patient(token); err != nil {
			return err
		}
	}
	return nil
}

func (a *gearLoad) document(n int) []byte {
	text := []byte{'{'}
	for f := range 10 {
		if f > 0 {
			text = append(text, ',')
		}
		text = fmt.Appendf(text, `"f%d":`, f)
		text = strconv.AppendFloat(text, firmwaresim.LoadValue(n%a.Gear, uint64(n/a.Gear), f), 'g', 6, 64)
	}
	return append(text, '}')
}

func patient(token mqtt.Token) error {
	if !token.WaitTimeout(hubtest.Patience) {
		return fmt.Errorf("the broker does not answer within %v", hubtest.Patience)
	}
	return token.Error()
}
