package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// topLines is how many devices a page has that no screen bounds.
const topLines = 20

// top is a running 'hubctl top'.
type top struct {
	*app
	api      *connection.Clients
	selector string
	interval time.Duration

	// The drawing's.
	status  hubStatus
	devices []*operatorv1.Device // online, the first page of them
	sampled sample
	failure error

	mu     sync.Mutex // guards what follows
	counts map[string]*rowCount
	missed uint64
	since  time.Time
}

type rowCount struct {
	rows, values uint64
	last         *timestamppb.Timestamp
}

// sample is what was counted in a time.
type sample struct {
	counts map[string]*rowCount
	missed uint64
	over   time.Duration
}

// take closes the present count and begins the next.
func (t *top) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.sampled = sample{counts: t.counts, missed: t.missed}
	if !t.since.IsZero() {
		t.sampled.over = now.Sub(t.since)
	}
	t.counts, t.missed, t.since = map[string]*rowCount{}, 0, now
}

type topRow struct {
	id           string
	rows, values float64 // a second
	last         *timestamppb.Timestamp
	device       *operatorv1.Device // nil: not among the online ones that were listed
}

// rows are the devices, the busiest first.
func (t *top) rows() []topRow {
	rate := func(n uint64) float64 {
		if t.sampled.over <= 0 {
			return 0
		}
		return float64(n) / t.sampled.over.Seconds()
	}
	var rows []topRow
	listed := map[string]bool{}
	for _, d := range t.devices {
		listed[d.Id] = true
		row := topRow{id: d.Id, device: d}
		if c := t.sampled.counts[d.Id]; c != nil {
			row.rows, row.values, row.last = rate(c.rows), rate(c.values), c.last
		}
		rows = append(rows, row)
	}
	for id, c := range t.sampled.counts {
		if !listed[id] {
			rows = append(rows, topRow{id: id, rows: rate(c.rows), values: rate(c.values), last: c.last})
		}
	}
	slices.SortFunc(rows, func(a, b topRow) int {
		return cmp.Or(cmp.Compare(b.rows, a.rows), cmp.Compare(a.id, b.id))
	})
	return rows
}

// page is the whole picture, a string a line, harmless for the screen; with a
// height it has no more lines than that.
func (t *top) page(width, height int) []string {
	s := t.status
	state := "ready"
	for _, c := range s.GetChecks() {
		if !c.Ok {
			state = "NOT READY: " + c.Name + " " + c.Detail
			break
		}
	}
	if !s.GetReady() && state == "ready" {
		state = "NOT READY"
	}
	lines := []string{
		fmt.Sprintf("%s  %s  up %s  %s  %s", t.settings.Hub, s.GetNode(), span(s.GetNow().AsTime().Sub(s.GetStarted().AsTime())), s.GetStore(), state),
		fmt.Sprintf("devices %s of %s online   connections %s   commands pending %s", grouped(uint64(s.GetDevicesOnline())), grouped(uint64(s.GetDevices())),
			grouped(s.GetConnections()), firstOf(pendingCommands(s), "unknown")),
	}
	if only := onlyOf(s); only != "" {
		lines = append(lines, fmt.Sprintf("rows in quarantine %s   %s", grouped(s.GetRowsQuarantined()), only))
	} else {
		lines = append(lines,
			fmt.Sprintf("rows %.1f/s   acknowledged %s   stored %s   in quarantine %s   frames rejected %s", s.GetRowsPerSecond(),
				grouped(s.GetRowsAcknowledged()), grouped(s.GetRowsStored()), grouped(s.GetRowsQuarantined()), grouped(s.GetRowsRejected())),
			"buffer "+bufferWords(s.GetBuffer()))
	}
	if t.sampled.missed > 0 {
		lines = append(lines, fmt.Sprintf("%s rows came too fast to be counted below", grouped(t.sampled.missed)))
	}
	if t.failure != nil {
		text, _ := t.explain(t.failure)
		lines = append(lines, "NO ANSWER: "+text)
	}
	for i, line := range lines {
		lines[i] = terminal.Clean(line)
	}
	lines = append(lines, "")
	rows := t.rows()
	most := topLines
	if height > 0 {
		most = max(1, height-len(lines)-1)
	}
	var table bytes.Buffer
	_, _ = output.WriteTable(&table, width, topColumns(), rows[:min(len(rows), most)]) // a buffer takes all
	return append(lines, strings.Split(strings.TrimRight(table.String(), "\n"), "\n")...)
}

func topColumns() []output.Column[topRow] {
	return []output.Column[topRow]{
		{Name: "DEVICE", Cell: func(r topRow) string { return r.id }, Whole: true},
		{Name: "ROWS/S", Cell: func(r topRow) string { return fmt.Sprintf("%.1f", r.rows) }, Right: true, Whole: true},
		{Name: "VALUES/S", Cell: func(r topRow) string { return fmt.Sprintf("%.1f", r.values) }, Right: true, Whole: true},
		{Name: "LAST READING", Cell: func(r topRow) string { return ago(r.last) }},
		{Name: "ONLINE FOR", Cell: func(r topRow) string {
			if since := r.device.GetPresence().GetSince(); since != nil {
				return span(max(0, time.Since(since.AsTime())))
			}
			return ""
		}},
		{Name: "FIRMWARE", Cell: func(r topRow) string { return r.device.GetPresence().GetFirmware() }},
		{Name: "LABELS", Cell: func(r topRow) string { return labelPairs(r.device.GetLabels(), ",") }},
	}
}
