package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

// commandSettings say how the kinds raw, json and influx carry out a command.
// Templates have the placeholders {gear}, {id} (of the command) and
// {arg.NAME}; nothing is run.
type commandSettings struct {
	Name        string             `yaml:"name"`
	Description string             `yaml:"description"`
	Args        []argumentSettings `yaml:"args"`
	// Topic is a template; the value of an argument in it may not be empty
	// and has no '/', '+' or '#'.
	Topic string `yaml:"topic"`
	// Payload is a text template, or a mapping or list that is sent as JSON:
	// a string in it that is one placeholder becomes the value as it is, with
	// its type; others are text templates. Absent: the arguments, as a JSON
	// object.
	Payload any `yaml:"payload"`
	// Answer tells how the gear answers; absent: it does not.
	Answer *answerSettings `yaml:"answer"`
}

type argumentSettings struct {
	Name        string   `yaml:"name"`
	Type        string   `yaml:"type"` // number, integer, bool or text; "": any
	Optional    bool     `yaml:"optional"`
	Values      wordList `yaml:"values"` // none: any
	Unit        string   `yaml:"unit"`
	Description string   `yaml:"description"`
}

// command is what becomes of commandSettings.
type command struct {
	settings commandSettings
	topic    *template
	text     *template // nil: the payload is JSON
	answer   *answer   // nil: none
}

var commandName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

func (s *source) setCommands(list []commandSettings) error {
	if len(list) == 0 {
		return nil
	}
	var d description
	for _, settings := range list {
		c, err := s.newCommand(settings)
		if err != nil {
			return fmt.Errorf("command %s: %w", quoted(settings.Name), err)
		}
		s.commands = append(s.commands, c)
		c.describe(&d)
	}
	s.describe = d.done()
	return nil
}

func (s *source) newCommand(settings commandSettings) (*command, error) {
	if !commandName.MatchString(settings.Name) {
		return nil, errors.New("name: it takes a letter or '_', then letters, digits, '_', '-' and '.'")
	}
	if slices.ContainsFunc(s.commands, func(c *command) bool { return c.settings.Name == settings.Name }) {
		return nil, errors.New("it is there twice")
	}
	c := &command{settings: settings}
	var err error
	if c.topic, err = newTemplate(settings.Topic); err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	if settings.Topic == "" || strings.ContainsAny(settings.Topic, "+#\x00") {
		return nil, errors.New("topic: it takes a topic without '+' and '#', as \"sensors/{gear}/set\"")
	}
	if err := c.setPayload(); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	for i, a := range c.settings.Args {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("args[%d]: %w", i, err)
		}
	}
	if settings.Answer != nil {
		if c.answer, err = newAnswer(*settings.Answer); err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		s.listen(c.answer.filter(s.gearLevels()))
	}
	c.declare()
	return c, nil
}

func (c *command) setPayload() (err error) {
	switch p := c.settings.Payload.(type) {
	case string:
		c.text, err = newTemplate(p)
		start := strings.TrimSpace(p)
		if err == nil && c.text.hasArguments() && (strings.HasPrefix(start, `{"`) || strings.HasPrefix(start, "[")) {
			return errors.New("JSON with arguments takes a mapping instead of a text, so that a value cannot change its form")
		}
	case nil:
	default:
		_, err = fillJSON(p, Command{}, "", true)
	}
	return err
}

func (a argumentSettings) check() error {
	if !argumentName.MatchString(a.Name) {
		return fmt.Errorf("name: %s is no name of an argument", quoted(a.Name))
	}
	if _, ok := argumentKinds[a.Type]; !ok {
		return fmt.Errorf("type: %s is none of number, integer, bool, text", quoted(a.Type))
	}
	return nil
}

var argumentKinds = map[string]telemetry.Kind{
	"": anyKind, "number": telemetry.Double, "integer": telemetry.Int, "bool": telemetry.Bool, "text": telemetry.String,
}

// declare the arguments that templates name and the settings do not.
func (c *command) declare() {
	var names []string
	names = append(names, c.topic.arguments()...)
	if c.text != nil {
		names = append(names, c.text.arguments()...)
	}
	names = append(names, jsonArguments(c.settings.Payload)...)
	for _, name := range names {
		if c.argument(name) == nil {
			c.settings.Args = append(c.settings.Args, argumentSettings{Name: name})
		}
	}
}

func (c *command) argument(name string) *argumentSettings {
	for i := range c.settings.Args {
		if c.settings.Args[i].Name == name {
			return &c.settings.Args[i]
		}
	}
	return nil
}

func (c *command) describe(d *description) {
	var args []*devicev1.ArgumentDescription
	for _, a := range c.settings.Args {
		described := argument(a.Name, argumentKinds[a.Type], !a.Optional, a.Description)
		described.Unit = unitName(a.Unit)
		args = append(args, described)
	}
	d.command(c.settings.Name, clean(c.settings.Description, maxTextBytes), args...)
}

// Command of the settings.
func (s *source) Command(gear string, c Command) (Plan, error) {
	for _, known := range s.commands {
		if known.settings.Name == c.Name {
			return known.plan(gear, c)
		}
	}
	names := make([]string, len(s.commands))
	for i, known := range s.commands {
		names[i] = known.settings.Name
	}
	return Plan{}, unknownCommand(c.Name, names...)
}

func (c *command) plan(gear string, cmd Command) (Plan, error) {
	if err := c.check(cmd.Args); err != nil {
		return Plan{}, err
	}
	topic, err := c.topic.fill(cmd, gear, topicValue)
	if err != nil {
		return Plan{}, err
	}
	payload, err := c.payload(gear, cmd)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Publish: []Publish{{Topic: topic, Payload: payload}}}
	if c.answer != nil {
		plan.Match, plan.Turn, err = c.answer.matcher(gear, cmd)
		plan.Named = c.answer.named
	}
	return plan, err
}

func (c *command) payload(gear string, cmd Command) ([]byte, error) {
	if c.text != nil {
		text, err := c.text.fill(cmd, gear, textValue)
		return []byte(text), err
	}
	var document any = cmd.Args
	if c.settings.Payload != nil {
		filled, err := fillJSON(c.settings.Payload, cmd, gear, false)
		if err != nil {
			return nil, err
		}
		document = filled
	}
	payload, err := json.Marshal(document)
	if err != nil {
		return nil, Refuse("bad argument", "%v", err)
	}
	return payload, nil
}

// check the arguments of a command. Where none is declared and the payload is
// the arguments, all are taken.
func (c *command) check(args map[string]any) error {
	free := len(c.settings.Args) == 0 && c.settings.Payload == nil
	for name := range args {
		if c.argument(name) == nil && !free {
			return Refuse("unknown argument", "%s takes no %s", c.settings.Name, quoted(name))
		}
	}
	for _, a := range c.settings.Args {
		v, given := args[a.Name]
		if !given || v == nil {
			if a.Optional {
				continue
			}
			return Refuse("missing argument", "%s takes %s", c.settings.Name, a.Name)
		}
		if err := checkArgument(a.Name, v, argumentKinds[a.Type]); err != nil {
			return err
		}
		if len(a.Values) > 0 && !slices.Contains(a.Values, scalarText(v)) {
			return Refuse("bad argument", "%s takes one of %s", a.Name, strings.Join(a.Values, ", "))
		}
	}
	return nil
}

// checkArgument refuses a value of another kind.
func checkArgument(name string, v any, kind telemetry.Kind) error {
	ok := true
	switch kind {
	case telemetry.Double:
		_, ok = v.(json.Number)
	case telemetry.Int:
		var n json.Number
		if n, ok = v.(json.Number); ok {
			_, ok = parseInt(string(n))
		}
	case telemetry.Bool:
		_, ok = v.(bool)
	case telemetry.String:
		_, ok = v.(string)
	}
	if !ok {
		return Refuse("bad argument", "%s takes a value of the type %s", name, kind)
	}
	return nil
}

// unknownCommand refuses a command by its name.
func unknownCommand(name string, known ...string) error {
	if len(known) == 0 {
		return Refuse("unknown command", "%s: this gear has none", quoted(name))
	}
	return Refuse("unknown command", "%s is none of %s", quoted(name), strings.Join(known, ", "))
}
