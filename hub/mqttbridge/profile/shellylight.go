package profile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/telemetry"
)

// shellyDocuments are the topics of generation 1 that tell many values at once,
// as JSON: the state of lights, and the sensors of an add-on.
var shellyDocuments = map[string]bool{
	"light/+/status": true, "color/+/status": true, "white/+/status": true,
	"ext_temperatures": true, "ext_humidities": true,
	"sensor/ext_temperatures": true, "sensor/ext_humidities": true,
}

// shellyDocument makes fields of a document: {"brightness":50} of
// light/0/status is light_0_brightness. A power that has a topic of its own too
// is the same field.
func shellyDocument(flat *Flattener, levels []string, m Message, report *Report) error {
	if len(m.Payload) == 0 {
		return nil
	}
	leaves, problem, err := flat.Flatten(m.Payload)
	if err != nil {
		return err
	}
	if levels[len(levels)-1] == "status" {
		levels = levels[:len(levels)-1]
	}
	var row telemetry.Row
	for _, leaf := range leaves {
		if leaf.Path == "" {
			return Refuse("not the JSON expected", "%s: no object", strings.Join(levels, "/"))
		}
		row.Fields = append(row.Fields, telemetry.Field{
			Name: FieldName(append(slices.Clone(levels), splitPath(leaf.Path)...)...), Value: leaf.Value})
	}
	if len(row.Fields) > 0 {
		report.Rows = []telemetry.Row{row}
	}
	report.Problem = problem
	return nil
}

// shellyDim sets the brightness of a light of generation 1, and switches it
// where that is asked for too. Its answer is the state that has both.
func shellyDim(gear string, c Command) (Plan, error) {
	if err := onlyArguments(c, "channel", "turn", "brightness"); err != nil {
		return Plan{}, err
	}
	output, err := shellyOutput(c)
	if err != nil {
		return Plan{}, err
	}
	number, _ := c.Args["brightness"].(json.Number)
	brightness, ok := parseInt(number.String())
	if !ok || brightness < 0 || brightness > 100 {
		return Plan{}, Refuse("bad argument", "brightness takes 0 to 100")
	}
	set := struct {
		Turn       string `json:"turn,omitempty"`
		Brightness int64  `json:"brightness"`
	}{Brightness: brightness}
	if _, given := c.Args["turn"]; given {
		if set.Turn, err = oneOf(c, "turn", "on", "off"); err != nil {
			return Plan{}, err
		}
	}
	payload, err := json.Marshal(set)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%v", err)
	}
	topic := shellyPrefix + "/" + gear + "/" + output
	return Plan{
		Publish: []Publish{{Topic: topic + "/set", Payload: payload}},
		Turn:    topic,
		Match: func(m Message) (Answer, bool) {
			var state struct {
				On         *bool    `json:"ison"`
				Brightness *float64 `json:"brightness"`
			}
			if m.Retained || m.Topic != topic+"/status" || DecodeJSON(m.Payload, &state) != nil ||
				state.Brightness == nil || *state.Brightness != float64(brightness) ||
				set.Turn != "" && (state.On == nil || *state.On != (set.Turn == "on")) {
				return Answer{}, false
			}
			return succeeded(map[string]any{"brightness": brightness}), true
		},
	}, nil
}
