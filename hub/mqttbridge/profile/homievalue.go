package profile

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tetherline/tetherline/telemetry"
)

// homieKindOf is the kind in which values of a $datatype are stored; 0: they
// are not.
func homieKindOf(datatype string) telemetry.Kind {
	switch datatype {
	case "integer":
		return telemetry.Int
	case "float":
		return telemetry.Double
	case "boolean":
		return telemetry.Bool
	case "string", "enum", "color", "datetime", "duration", "json":
		return telemetry.String
	}
	return 0
}

// homieReading is the value of a payload.
func homieReading(datatype, text string) (telemetry.Value, error) {
	switch homieKindOf(datatype) {
	case telemetry.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strings.HasPrefix(text, "+") {
			return telemetry.Value{}, fmt.Errorf("%s is no integer", quoted(text))
		}
		return telemetry.IntValue(n), nil
	case telemetry.Double:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || strings.Trim(text, "0123456789+-.eE") != "" || finite(v) != nil {
			return telemetry.Value{}, fmt.Errorf("%s is no number", quoted(text))
		}
		return telemetry.DoubleValue(v), nil
	case telemetry.Bool:
		if text != "true" && text != "false" {
			return telemetry.Value{}, fmt.Errorf("%s is neither true nor false", quoted(text))
		}
		return telemetry.BoolValue(text == "true"), nil
	case telemetry.String:
		return telemetry.StringValue(text), checkText(text)
	}
	return telemetry.Value{}, fmt.Errorf("$datatype %s is none of the convention's", quoted(datatype))
}

// value is the payload of node/property.
func (p *homie) value(t homieTopic, m Message, report *Report) error {
	d, err := p.device(t)
	if err != nil {
		return err
	}
	property, err := p.find(d, t.levels[0], t.levels[1])
	if err != nil || m.Retained || len(m.Payload) == 0 {
		return err
	}
	datatype := d.datatype(property)
	if datatype == "" {
		refusal := at(Refuse("not described", "%s has no $datatype", quoted(t.String())), t.device)
		return &Early{Gear: t.device, Key: t.device, Refusal: refusal}
	}
	value, err := homieReading(datatype, string(m.Payload))
	if err != nil {
		return Refuse("wrong type", "%s: %v", property.key, err)
	}
	if d.fields[property.field] != property {
		return Refuse("ambiguous name", "two properties make the field %s: neither is stored", property.field)
	}
	if datatype == "enum" && property.format != "" && !slices.Contains(strings.Split(property.format, ","), value.Str()) {
		report.Problem = fmt.Sprintf("%s: %s is not in its $format", property.key, quoted(value.Str()))
	}
	report.Rows = oneRow(property.field, p.integers.value(value))
	report.Describe = p.description(d, m.Received)
	return nil
}

// datatype of a property that may be nil; "": it is not known. It is a string
// where a device of the convention 3 says nothing.
func (d *homieDevice) datatype(p *homieProperty) string {
	switch {
	case p == nil:
		return ""
	case p.datatype == "" && d.ready && strings.HasPrefix(d.version, "3"):
		return "string"
	}
	return p.datatype
}

// homieText is the payload that sets a property, from a decoded JSON value.
func homieText(p *homieProperty, value any) (string, error) {
	switch p.datatype {
	case "integer":
		n, ok := value.(json.Number)
		whole, isWhole := parseInt(n.String())
		if !ok || !isWhole {
			return "", fmt.Errorf("takes a whole number")
		}
		return strconv.FormatInt(whole, 10), inRange(p.format, float64(whole))
	case "float":
		n, ok := value.(json.Number)
		v, err := strconv.ParseFloat(n.String(), 64)
		if !ok || err != nil {
			return "", fmt.Errorf("takes a number")
		}
		return strconv.FormatFloat(v, 'f', -1, 64), inRange(p.format, v)
	case "boolean":
		v, ok := value.(bool)
		if !ok {
			return "", fmt.Errorf("takes true or false")
		}
		return strconv.FormatBool(v), nil
	case "json":
		text, err := json.Marshal(value)
		return string(text), err
	}
	text, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("takes a text")
	}
	switch p.datatype {
	case "enum":
		if values := strings.Split(p.format, ","); p.format != "" && !slices.Contains(values, text) {
			return "", fmt.Errorf("takes one of %s", cut(p.format))
		}
	case "color":
		return text, checkColor(p.format, text)
	case "datetime":
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return "", fmt.Errorf("takes a time as 2026-01-02T15:04:05Z")
		}
	}
	return text, checkText(text)
}

// inRange checks a number against "min:max", where either may be missing, and
// the step of the convention 5, which is the device's to round to.
func inRange(format string, v float64) error {
	if format == "" {
		return nil
	}
	bounds := strings.Split(format, ":")
	least, most := math.Inf(-1), math.Inf(1)
	if n, err := strconv.ParseFloat(bounds[0], 64); err == nil {
		least = n
	}
	if len(bounds) > 1 {
		if n, err := strconv.ParseFloat(bounds[1], 64); err == nil {
			most = n
		}
	}
	if v < least || v > most {
		return fmt.Errorf("takes a number in %s", cut(format))
	}
	return nil
}

// checkColor checks "r,g,b" or "h,s,v"; the convention 5 puts the format in
// front, and has "xyz".
func checkColor(format, text string) error {
	parts := strings.Split(text, ",")
	if len(parts) == 4 && slices.Contains(strings.Split(format, ","), parts[0]) {
		format, parts = parts[0], parts[1:]
	}
	most := [3]float64{255, 255, 255}
	switch format {
	case "hsv":
		most = [3]float64{360, 100, 100}
	case "xyz":
		most = [3]float64{1, 1, 1}
	}
	if n := len(parts); n != 3 && (n != 2 || format != "xyz") {
		return fmt.Errorf("takes a colour as %s: three numbers with commas", cut(format))
	}
	for i, part := range parts {
		v, err := strconv.ParseFloat(part, 64)
		if err != nil || !(v >= 0 && v <= most[i]) {
			return fmt.Errorf("takes a colour as %s: %s is out of range", cut(format), quoted(part))
		}
	}
	return nil
}
