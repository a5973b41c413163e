package hub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tetherline/tetherline/device/client"
	"github.com/tetherline/tetherline/hub"
	"github.com/tetherline/tetherline/hub/hubtest"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// texts are what breaks a store that builds its writes or queries by hand.
// "" is a value too.
var texts = []string{
	`plain`, ``, ` `, ` leading and trailing `, `"quoted"`, `'quoted'`, "`quoted`", `a"b\c`, `\`, `\\`, `\\\`, `ends with \`, `\"`, `\n`,
	"a\nb", "\n", "\r\n", "a\tb", "\x00", "\x01\x1b[31m", `a,b=c d`, `x" v=1i 1`, "x\"\nother,device=thief v=1i 1\n",
	`'; DROP TABLE rows; --`, `$1 %s {{.}}`, "Zürich ☃ 𝔘 \u2028", "\ufeff", strings.Repeat(`\"`, 2048),
}

// Text comes back byte for byte, whichever store it went through.
func TestTextIsFaithfulInBothStores(t *testing.T) {
	t.Parallel()
	db := influxtest.Start(t)
	for name, cfg := range map[string]hub.Config{"sqlite": hubtest.Config(t), "influxdb": influxConfig(t, db)} {
		t.Run(name, func(t *testing.T) {
			h := hubtest.Start(t, cfg)
			c, _ := hubtest.Run(t, h.Client(h.CreateDevice(t, "poet")))
			begin := time.Now().Add(-time.Hour).Truncate(time.Second)
			for i, text := range texts {
				row := client.Row{Time: begin.Add(time.Duration(i) * time.Second), Fields: []client.Field{client.String("verse", text)}}
				if err := c.Publish(t.Context(), row); err != nil {
					t.Fatalf("publish %q: %v", text, err)
				}
			}
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			hubtest.Eventually(t, "all rows are stored", func() bool { return h.Count(t, "poet") == uint64(len(texts)) })
			wantTexts(t, h.Endpoint)
			wantNoQuarantine(t, h.Endpoint)
		})
	}
	wantTextsInInflux(t, db)
}

func wantTexts(t *testing.T, h hubtest.Endpoint) {
	t.Helper()
	answer, err := h.Telemetry.Query(t.Context(), connect.NewRequest(&operatorv1.QueryRequest{DeviceId: "poet"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Msg.Rows) != len(texts) {
		t.Fatalf("%d rows; want %d", len(answer.Msg.Rows), len(texts))
	}
	for i, row := range answer.Msg.Rows {
		v, ok := row.Values["verse"]
		if !ok || v.GetStringValue() != texts[i] || len(row.Values) != 1 {
			t.Errorf("row %d: got %q; want %q alone", i, row.Values, texts[i])
		}
	}
	latest, err := h.Telemetry.Latest(t.Context(), connect.NewRequest(&operatorv1.LatestRequest{DeviceId: "poet"}))
	if err != nil {
		t.Fatal(err)
	}
	if items := latest.Msg.Items; len(items) != 1 || items[0].Value.GetStringValue() != texts[len(texts)-1] {
		t.Errorf("latest is %v", items)
	}
}

// wantTextsInInflux asks the server itself, past the hub's reader.
func wantTextsInInflux(t *testing.T, db *influxtest.Server) {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct {
				Tags   map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(db.Query(`SELECT verse FROM telemetry GROUP BY device ORDER BY time`), &answer); err != nil {
		t.Fatal(err)
	}
	all := answer.Results[0].Series
	if len(all) != 1 || all[0].Tags["device"] != "poet" || len(all[0].Values) != len(texts) {
		t.Fatalf("InfluxDB holds %d series: %v", len(all), all)
	}
	for i, v := range all[0].Values {
		if v[1] != any(texts[i]) {
			t.Errorf("row %d: InfluxDB holds %q; want %q", i, v[1], texts[i])
		}
	}
	var measurements struct {
		Results []struct {
			Series []struct{ Values [][]string }
		}
	}
	if err := json.Unmarshal(db.Query(`SHOW MEASUREMENTS`), &measurements); err != nil {
		t.Fatal(err)
	}
	if got := measurements.Results[0].Series[0].Values; len(got) != 1 {
		t.Errorf("text has made measurements: %v", got)
	}
}
