package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// maxResultBytes of an answer go with a command's end.
const maxResultBytes = 15 << 10

// Codes of google.rpc.Code that answers have.
const (
	codeUnknown         = 2
	codeInvalidArgument = 3
)

// answerSettings say how the gear answers a command. Without a condition the
// first message on the topic is the answer.
type answerSettings struct {
	Topic    string             `yaml:"topic"`    // a template
	Equals   string             `yaml:"equals"`   // a template: the payload, without white space around it
	Contains string             `yaml:"contains"` // a template: a part of the payload
	Fields   map[string]any     `yaml:"fields"`   // values of a JSON payload by path; strings are templates
	Failed   *conditionSettings `yaml:"failed"`   // what says failure; absent: nothing does
	Message  string             `yaml:"message"`  // path of the text that says why
}

// conditionSettings are what a payload has to say, all that is given.
type conditionSettings struct {
	Equals   string         `yaml:"equals"`
	Contains string         `yaml:"contains"`
	Fields   map[string]any `yaml:"fields"`
}

// answer is what becomes of answerSettings.
type answer struct {
	topic     *template
	succeeded *condition
	failed    *condition // nil: never
	message   string
	named     bool // it has the id of the command, whatever it says
	flattener Flattener
}

type condition struct {
	equals, contains *template // nil: not asked
	fields           map[string]any
}

func newAnswer(s answerSettings) (a *answer, err error) {
	a = &answer{message: s.Message}
	if s.Topic == "" || strings.ContainsAny(s.Topic, "+#\x00") {
		return nil, errors.New("topic: it takes a topic without '+' and '#', as \"sensors/{gear}/result\"")
	}
	if a.topic, err = newTemplate(s.Topic); err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	if a.succeeded, err = newCondition(conditionSettings{Equals: s.Equals, Contains: s.Contains, Fields: s.Fields}); err != nil {
		return nil, err
	}
	if s.Failed != nil {
		if a.failed, err = newCondition(*s.Failed); err != nil {
			return nil, fmt.Errorf("failed: %w", err)
		}
	}
	a.named = a.topic.hasID() || a.succeeded.named() && (a.failed == nil || a.failed.named())
	return a, nil
}

func newCondition(s conditionSettings) (c *condition, err error) {
	c = &condition{fields: s.Fields}
	if s.Equals != "" {
		if c.equals, err = newTemplate(s.Equals); err != nil {
			return nil, fmt.Errorf("equals: %w", err)
		}
	}
	if s.Contains != "" {
		if c.contains, err = newTemplate(s.Contains); err != nil {
			return nil, fmt.Errorf("contains: %w", err)
		}
	}
	for path, want := range s.Fields {
		switch want.(type) {
		case string, bool, uint64, int64, float64:
		default:
			return nil, fmt.Errorf("fields: %s: it takes a text, a number or a bool", path)
		}
	}
	if _, err := fillJSON(s.Fields, Command{}, "", true); err != nil {
		return nil, fmt.Errorf("fields: %w", err)
	}
	return c, nil
}

// named tells whether nothing holds that is without the id of the command.
func (c *condition) named() bool {
	if c.equals.hasID() || c.contains.hasID() {
		return true
	}
	for _, want := range c.fields {
		if text, ok := want.(string); ok {
			if t, err := newTemplate(text); err == nil && t.hasID() {
				return true
			}
		}
	}
	return false
}

// filter of all topics on which answers come, for gear whose name has so many
// levels.
func (a *answer) filter(gearLevels int) string {
	var b strings.Builder
	for _, p := range a.topic.parts {
		switch p.place {
		case "":
			b.WriteString(p.text)
		case "gear":
			b.WriteString(strings.Repeat("+/", max(gearLevels, 1)-1) + "+")
		default:
			b.WriteByte('+')
		}
	}
	levels := strings.Split(b.String(), "/")
	for i, l := range levels {
		if strings.Contains(l, "+") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// matcher of the answer to one command, and its topic.
func (a *answer) matcher(gear string, c Command) (match func(Message) (Answer, bool), topic string, err error) {
	if topic, err = a.topic.fill(c, gear, topicValue); err != nil {
		return nil, "", err
	}
	succeeded, err := a.succeeded.filled(gear, c)
	if err != nil {
		return nil, "", err
	}
	var failed *filledCondition
	if a.failed != nil {
		if failed, err = a.failed.filled(gear, c); err != nil {
			return nil, "", err
		}
	}
	return func(m Message) (Answer, bool) {
		if m.Retained || m.Topic != topic || len(m.Payload) > MaxPayloadBytes {
			return Answer{}, false
		}
		leaves, _, err := a.flattener.Flatten(m.Payload)
		if err != nil {
			leaves = nil
		}
		switch {
		case failed != nil && failed.holds(m.Payload, leaves):
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: codeUnknown,
				Message: a.says(m.Payload, leaves), Result: result(m.Payload)}, true
		case succeeded.holds(m.Payload, leaves):
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: result(m.Payload)}, true
		}
		return Answer{}, false
	}, topic, nil
}

// says is why it failed, in the gear's words.
func (a *answer) says(payload []byte, leaves []Leaf) string {
	for _, l := range leaves {
		if l.Path == a.message && a.message != "" {
			return clean(l.text(), 1024)
		}
	}
	return "the gear answered " + quoted(payload)
}

// result is an answer that is a JSON object, to be kept with the command.
func result(payload []byte) []byte {
	if len(payload) > maxResultBytes || CheckJSON(payload) != nil || !json.Valid(payload) || !bytes.HasPrefix(bytes.TrimSpace(payload), []byte("{")) {
		return nil
	}
	return bytes.Clone(payload)
}

// filledCondition is a condition for one command.
type filledCondition struct {
	equals, contains *string
	fields           map[string]any
}

func (c *condition) filled(gear string, cmd Command) (f *filledCondition, err error) {
	f = &filledCondition{}
	for _, t := range []struct {
		of *template
		to **string
	}{{c.equals, &f.equals}, {c.contains, &f.contains}} {
		if t.of == nil {
			continue
		}
		text, err := t.of.fill(cmd, gear, textValue)
		if err != nil {
			return nil, err
		}
		*t.to = &text
	}
	if len(c.fields) > 0 {
		fields, err := fillJSON(c.fields, cmd, gear, false)
		if err != nil {
			return nil, err
		}
		f.fields = fields.(map[string]any)
	}
	return f, nil
}

func (f *filledCondition) holds(payload []byte, leaves []Leaf) bool {
	if f.equals != nil && string(bytes.TrimSpace(payload)) != *f.equals ||
		f.contains != nil && !bytes.Contains(payload, []byte(*f.contains)) {
		return false
	}
	found := 0
	for _, l := range leaves {
		if want, asked := f.fields[l.Path]; asked {
			if !l.is(want) {
				return false
			}
			found++
		}
	}
	return found == len(f.fields)
}

// is tells whether a leaf is the value: numbers by their value, others by
// their text.
func (l Leaf) is(want any) bool {
	text := scalarText(want)
	if l.Value.Kind() == telemetry.Double {
		v, err := strconv.ParseFloat(text, 64)
		return err == nil && v == l.Value.Float64()
	}
	return l.text() == text
}
