package main

import (
	"encoding/json"
	"fmt"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
)

// report tells what became of each device; people get those that need their
// attention, and the new credentials where there is no folder for them.
func (r *importRun) report() error {
	counts := map[string]int{}
	for _, res := range r.results {
		counts[res.status]++
	}
	if err := r.write(); err != nil {
		return err
	}
	if r.out != output.JSON {
		r.notef("%d created, %d exist already, %d failed, %d unknown",
			counts[importCreated], counts[importExists], counts[importFailed], counts[importUnknown])
	}
	if counts[importFailed]+counts[importUnknown] > 0 {
		return exitStatus{code: exitPartial}
	}
	return nil
}

func (r *importRun) write() error {
	columns := []output.Column[importResult]{
		{Name: "id", Cell: func(i importResult) string { return i.id }, Whole: true},
		{Name: "status", Cell: func(i importResult) string { return i.status }, Whole: true},
		{Name: "detail", Cell: func(i importResult) string { return i.detail }},
	}
	if r.outDir == "" {
		columns = append(columns, output.Column[importResult]{Name: "credential", Cell: func(i importResult) string { return i.credential }, Whole: true})
	}
	switch r.out {
	case output.JSON:
		return r.writeJSON()
	case output.CSV:
		w := output.NewCSV(r.stdout, r.screenWidth() > 0, columns)
		for _, res := range r.results {
			if err := w.Put(res); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	var rows []importResult
	for _, res := range r.results {
		if res.detail != "" || res.credential != "" {
			rows = append(rows, res)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	for i, name := range []string{"ID", "STATUS", "DETAIL", "CREDENTIAL"}[:len(columns)] {
		columns[i].Name = name
	}
	width := r.screenWidth()
	if r.outDir == "" {
		width = 0 // a credential must not be cut
	}
	_, err := output.WriteTable(r.stdout, width, columns, rows)
	return err
}

func (r *importRun) writeJSON() error {
	type item struct {
		ID         string `json:"id"`
		Status     string `json:"status"`
		Detail     string `json:"detail"`
		Credential string `json:"credential,omitempty"`
	}
	answer := struct {
		HubURL  string `json:"hub_url"`
		Devices []item `json:"devices"`
	}{HubURL: r.hubURL, Devices: []item{}}
	for _, res := range r.results {
		answer.Devices = append(answer.Devices, item{res.id, res.status, res.detail, res.credential})
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return output.WriteRaw(r.stdout, raw)
}
