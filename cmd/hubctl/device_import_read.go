package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// deviceID is what the protocol allows as a device's name; here it also keeps
// file names within their folder.
var deviceID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// readImport reads the devices of a file and checks that each id is valid
// and stands there once.
func readImport(path string) ([]*operatorv1.NewDevice, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")) // the byte order mark of spreadsheets
	var devices []*operatorv1.NewDevice
	var where func(int) string
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		var lines []int
		devices, lines, err = importCSV(raw)
		where = func(i int) string { return fmt.Sprintf("line %d", lines[i]) }
	case ".json":
		devices, err = importJSON(raw)
		where = func(i int) string { return fmt.Sprintf("device %d", i+1) }
	default:
		err = errors.New("its name must end with .csv or .json")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(devices) == 0 {
		return nil, fmt.Errorf("%s: no devices in it", path)
	}
	first := make(map[string]int, len(devices))
	for i, d := range devices {
		if !deviceID.MatchString(d.Id) {
			return nil, fmt.Errorf("%s: %s: device id %q: 1 to 64 letters, digits, '_' and '-'", path, where(i), d.Id)
		}
		if j, twice := first[d.Id]; twice {
			return nil, fmt.Errorf("%s: %s: device %s is at %s already", path, where(i), d.Id, where(j))
		}
		first[d.Id] = i
	}
	return devices, nil
}

func importCSV(raw []byte) (devices []*operatorv1.NewDevice, lines []int, err error) {
	r := csv.NewReader(bytes.NewReader(raw))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("it is empty; the first line names the columns")
	}
	if err != nil {
		return nil, nil, err
	}
	hasID := false
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		hasID = hasID || header[i] == "id"
		if key, ok := strings.CutPrefix(header[i], "label:"); ok && key != "" {
			continue
		}
		if n := header[i]; n != "id" && n != "note" && n != "allow_unbound" {
			return nil, nil, fmt.Errorf("column %q: columns are id, note, allow_unbound and label:KEY", n)
		}
	}
	if !hasID {
		return nil, nil, errors.New("there is no column id")
	}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return devices, lines, nil
		}
		if err != nil {
			return nil, nil, err
		}
		line, _ := r.FieldPos(0)
		d, err := importRecord(header, record)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", line, err)
		}
		devices, lines = append(devices, d), append(lines, line)
	}
}

func importRecord(header, record []string) (*operatorv1.NewDevice, error) {
	d := &operatorv1.NewDevice{Labels: map[string]string{}}
	for i, name := range header {
		cell := strings.TrimSpace(record[i])
		switch key, isLabel := strings.CutPrefix(name, "label:"); {
		case cell == "":
		case isLabel:
			d.Labels[key] = cell
		case name == "id":
			d.Id = cell
		case name == "note":
			d.Note = cell
		default:
			b, err := strconv.ParseBool(cell)
			if err != nil {
				return nil, fmt.Errorf("allow_unbound %q: write true or false", cell)
			}
			d.AllowUnbound = b
		}
	}
	return d, nil
}

func importJSON(raw []byte) ([]*operatorv1.NewDevice, error) {
	var list []struct {
		ID           string            `json:"id"`
		Labels       map[string]string `json:"labels"`
		Note         string            `json:"note"`
		AllowUnbound bool              `json:"allow_unbound"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the array")
	}
	devices := make([]*operatorv1.NewDevice, len(list))
	for i, d := range list {
		devices[i] = &operatorv1.NewDevice{Id: d.ID, Labels: d.Labels, Note: d.Note, AllowUnbound: d.AllowUnbound}
	}
	return devices, nil
}
