package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	firmwaresim "github.com/tetherline/tetherline/firmware-sim"
	"github.com/tetherline/tetherline/telemetry/influx/influxtest"
)

// directLoad posts the rows of a load straight to InfluxDB: as many rows a
// request as the hub posts, over as many connections.
type directLoad struct {
	URL          string // of the write API, with its query
	Devices      int
	RowsPerFrame int
	Fields       int
	For          time.Duration
	Writers      int
	BatchRows    int
}

// directResult is what a directLoad has measured.
type directResult struct {
	ValuesPerSecond float64
	Rows            int64
	StoreCPU        time.Duration // of InfluxDB
}

func directRole(argument string) error {
	var a directLoad
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	var rows atomic.Int64
	var writers errgroup.Group
	start := time.Now()
	for w := range a.Writers {
		writers.Go(func() error {
			client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
			var body []byte
			frame := uint64(0) // of every device of this writer
			device := w
			for time.Since(start) < a.For {
				body = body[:0]
				n := 0
				for ; n < a.BatchRows; n += a.RowsPerFrame {
					body = a.appendFrame(body, device, frame, start.UnixNano())
					if device += a.Writers; device >= a.Devices {
						device, frame = w, frame+1
					}
				}
				if err := post(client, a.URL, body); err != nil {
					return err
				}
				rows.Add(int64(n))
			}
			return nil
		})
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	values := float64(rows.Load()) * float64(a.Fields)
	return json.NewEncoder(os.Stdout).Encode(directResult{ValuesPerSecond: values / time.Since(start).Seconds(), Rows: rows.Load()})
}

// appendFrame appends the rows of one frame of a load as line protocol.
func (a *directLoad) appendFrame(b []byte, device int, frame uint64, epoch int64) []byte {
	for i := range a.RowsPerFrame {
		row := frame*uint64(a.RowsPerFrame) + uint64(i)
		b = fmt.Appendf(b, "telemetry,device=load-%06d ", device+1)
		for f := range a.Fields {
			if f > 0 {
				b = append(b, ',')
			}
			b = append(b, 'f')
			b = strconv.AppendInt(b, int64(f), 10)
			b = append(b, '=')
			b = strconv.AppendFloat(b, firmwaresim.LoadValue(device, row, f), 'g', -1, 64)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, epoch+int64(row)*10_000, 10)
		b = append(b, '\n')
	}
	return b
}

func post(client *http.Client, url string, body []byte) error {
	answer, err := client.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("InfluxDB answers %s: %.200s", answer.Status, text)
	}
	return err
}

// direct posts rows of that shape to a server of its own for a while.
func direct(t testing.TB, shape firmwaresim.LoadConfig) (r directResult) {
	t.Helper()
	db := influxtest.Start(t)
	defer db.Kill()
	spent := cpuTime(db.PID())
	p := play(t, "direct", directLoad{
		URL: db.URL + "/write?db=tetherline&precision=ns", Devices: shape.Devices, RowsPerFrame: shape.RowsPerFrame,
		Fields: shape.FieldsPerRow, For: shape.For, Writers: 2, BatchRows: 5000,
	})
	line := p.hear()
	p.end()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	r.StoreCPU = cpuTime(db.PID()) - spent
	if n := rowsHeld(t, db); n != r.Rows {
		t.Fatalf("InfluxDB holds %d rows of %d that were posted", n, r.Rows)
	}
	return r
}

// rowsHeld asks InfluxDB itself.
func rowsHeld(t testing.TB, db *influxtest.Server) (n int64) {
	t.Helper()
	var answer struct {
		Results []struct {
			Series []struct{ Values [][2]int64 }
		}
	}
	if err := json.Unmarshal(db.Query(`SELECT COUNT("f0") FROM "telemetry"`), &answer); err != nil {
		t.Fatal(err)
	}
	if s := answer.Results[0].Series; len(s) == 1 && len(s[0].Values) == 1 {
		n = s[0].Values[0][1]
	}
	return n
}
