package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// chunkRows is how many rows the server puts into one piece of its answer:
// what is held undecoded at a time.
const chunkRows = 128

// series is a piece of the answer to one statement.
type series struct {
	Name    string            `json:"name"`
	Tags    map[string]string `json:"tags"`
	Columns []string          `json:"columns"`
	Values  [][]rawCell       `json:"values"`
}

// rawCell is a value as the server wrote it; nil for null.
type rawCell []byte

// UnmarshalJSON keeps the bytes.
func (c *rawCell) UnmarshalJSON(b []byte) error {
	*c = append((*c)[:0], b...)
	return nil
}

// errEnough ends the reading of an answer in good order.
var errEnough = errors.New("enough rows")

// ask sends InfluxQL statements, separated by ";", and calls each with every
// piece of the answer, numbered by statement. When each returns errEnough the
// rest is not read.
func (s *Store) ask(ctx context.Context, statements string, each func(statement int, piece *series) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.QueryTimeout)
	defer cancel()
	form := url.Values{
		"q":          {statements},
		"db":         {s.database},
		"epoch":      {"ns"},
		"chunked":    {"true"},
		"chunk_size": {strconv.Itoa(chunkRows)},
	}
	if s.policy != "" {
		form.Set("rp", s.policy)
	}
	service := s.client.HTTPService()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, service.ServerURL()+"query", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := service.DoHTTPRequestWithResponse(req, nil)
	if err != nil {
		return askError(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	err = readAnswer(json.NewDecoder(resp.Body), each)
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err != nil:
		return askError(ctx, err)
	}
	return nil
}

func readAnswer(d *json.Decoder, each func(int, *series) error) error {
	for {
		var answer struct {
			Error   string `json:"error"`
			Results []struct {
				Statement int      `json:"statement_id"`
				Error     string   `json:"error"`
				Series    []series `json:"series"`
			} `json:"results"`
		}
		switch err := d.Decode(&answer); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case answer.Error != "":
			return errors.New(answer.Error)
		}
		for i := range answer.Results {
			r := &answer.Results[i]
			if r.Error != "" {
				return errors.New(r.Error)
			}
			for k := range r.Series {
				if err := each(r.Statement, &r.Series[k]); err != nil {
					return err
				}
			}
		}
	}
}

func askError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("query InfluxDB: %w", err)
}

// value of a cell that was asked for by kind; ok is false for null.
func (c rawCell) value(k telemetry.Kind) (v telemetry.Value, ok bool, err error) {
	if c.null() {
		return v, false, nil
	}
	switch k {
	case telemetry.Int:
		n, err := strconv.ParseInt(string(c), 10, 64)
		return telemetry.IntValue(n), true, c.wrap(err)
	case telemetry.Bool:
		b, err := strconv.ParseBool(string(c))
		return telemetry.BoolValue(b), true, c.wrap(err)
	case telemetry.String:
		var s string
		err := json.Unmarshal(c, &s)
		return telemetry.StringValue(s), true, c.wrap(err)
	}
	f, err := strconv.ParseFloat(string(c), 64)
	return telemetry.DoubleValue(f), true, c.wrap(err)
}

func (c rawCell) null() bool { return len(c) == 0 || string(c) == "null" }

func (c rawCell) text() (string, error) {
	v, _, err := c.value(telemetry.String)
	return v.Str(), err
}

func (c rawCell) int() (int64, error) {
	v, _, err := c.value(telemetry.Int)
	return v.Int64(), err
}

func (c rawCell) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("InfluxDB answered %.40q: %w", []byte(c), err)
}

// ident quotes a name. Names have been checked to hold nothing to escape; it
// escapes all the same.
func ident(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name) + `"`
}

func literal(s string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(s) + `'`
}

// where selects a device's points in [from, to). The tag is named as such: a
// field may be called "device" too.
func where(device string, from, to int64) string {
	return fmt.Sprintf(`WHERE "device"::tag = %s AND time >= %d AND time < %d`, literal(device), from, to)
}
