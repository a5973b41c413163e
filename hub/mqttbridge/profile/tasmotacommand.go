package profile

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// tasmotaCommand is a command of tasmota.github.io/docs/Commands.
type tasmotaCommand struct {
	command
	shownBy string // the field that gear with this command has; "": any
	plan    func(args map[string]any) (word, payload string, answers tasmotaAnswer, err error)
}

// tasmotaAnswer tells whether what the gear says on stat is the answer: a key
// and its value of a RESULT, or the last level of a topic and no value.
type tasmotaAnswer func(key, value string) bool

var tasmotaCommands = []tasmotaCommand{
	{
		command: command{settings: commandSettings{Name: "power", Description: "switch an output", Args: []argumentSettings{
			{Name: "state", Description: "on, off or toggle"},
			{Name: "relay", Type: "integer", Optional: true, Description: "1 to 32, the first when absent"},
		}}},
		plan: tasmotaPowerPlan,
	},
	{
		command: command{settings: commandSettings{Name: "dimmer", Description: "set the brightness of a light", Args: []argumentSettings{
			{Name: "level", Type: "integer", Unit: "%", Description: "0 to 100; 0 turns the light off"},
		}}},
		shownBy: "Dimmer", plan: tasmotaLevelPlan("Dimmer", "level", 0, 100),
	},
	{
		command: command{settings: commandSettings{Name: "ct", Description: "set the colour temperature of a light", Args: []argumentSettings{
			{Name: "mired", Type: "integer", Unit: "mired", Description: "153 (cold) to 500 (warm)"},
		}}},
		shownBy: "CT", plan: tasmotaLevelPlan("CT", "mired", 153, 500),
	},
	{
		command: command{settings: commandSettings{Name: "color", Description: "set the colour of a light", Args: []argumentSettings{
			{Name: "color", Type: "text", Description: "RRGGBB, and WW or CWWW behind it where the light has them"},
		}}},
		shownBy: "Color", plan: tasmotaColorPlan,
	},
	{
		command: command{settings: commandSettings{Name: "command", Description: "any command of the firmware", Args: []argumentSettings{
			{Name: "command", Type: "text", Description: "its name: PulseTime1"},
			{Name: "payload", Optional: true, Description: "its parameter; absent asks for the present one"},
		}}},
		plan: tasmotaAnyPlan,
	},
}

// Command publishes on cmnd. The gear answers on stat; nothing is asked for
// twice, so that a toggle toggles once.
func (p *tasmota) Command(gear string, c Command) (Plan, error) {
	names := make([]string, len(tasmotaCommands))
	for i, known := range tasmotaCommands {
		if names[i] = known.settings.Name; known.settings.Name != c.Name {
			continue
		}
		if err := known.check(c.Args); err != nil {
			return Plan{}, err
		}
		word, payload, answers, err := known.plan(c.Args)
		if err != nil {
			return Plan{}, err
		}
		topic, ok := p.cmnd.topic(gear)
		if !ok {
			return Plan{}, Refuse("bad gear name", "%s does not fit the full-topic", quoted(gear))
		}
		plan := Plan{Publish: []Publish{{Topic: topic + "/" + word, Payload: []byte(payload)}}}
		if answers != nil {
			plan.Match = p.matcher(strings.Clone(gear), word, answers)
		}
		return plan, nil
	}
	return Plan{}, unknownCommand(c.Name, names...)
}

// matcher takes the JSON that gear says in answer, on RESULT or, with
// SetOption4, on a topic of the command's name. The plain "ON" on stat/x/POWER
// that comes behind it (tasmota.ino, MqttPublishPowerState; with SetOption90 it
// does not) is the same answer once more, and must not end the next command.
func (p *tasmota) matcher(gear, word string, answers tasmotaAnswer) func(Message) (Answer, bool) {
	return func(m Message) (Answer, bool) {
		c, ok := p.stat.match(m.Topic)
		if !ok || m.Retained || c.gear != gear {
			return Answer{}, false
		}
		if !bytes.HasPrefix(m.Payload, []byte("{")) {
			return Answer{}, false
		}
		done := Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: result(m.Payload)}
		leaves, _, err := p.flattener.Flatten(m.Payload)
		if err != nil {
			return Answer{}, false
		}
		if refused := tasmotaRefuses(leaves, word); refused != "" {
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_REJECTED, Code: codeInvalidArgument, Message: refused}, true
		}
		for _, l := range leaves {
			key, _, _ := strings.Cut(l.Path, ".")
			if answers(key, l.text()) {
				return done, true
			}
		}
		// SetOption4: the command's name instead of RESULT.
		if c.field != "RESULT" && answers(c.field, "") {
			return done, true
		}
		return Answer{}, false
	}
}

// tasmotaRefuses is what a RESULT says against a command.
func tasmotaRefuses(leaves []Leaf, word string) string {
	said, input := "", word
	for _, l := range leaves {
		switch l.Path {
		case "Command":
			said = l.text()
		case "Input":
			input = l.text()
		}
	}
	if (said != "Unknown" && said != "Error") || !strings.EqualFold(input, word) {
		return ""
	}
	return "the gear says that the command " + quoted(word) + " is " + map[string]string{"Unknown": "unknown", "Error": "wrong"}[said]
}

func tasmotaPowerPlan(args map[string]any) (string, string, tasmotaAnswer, error) {
	state := strings.ToUpper(scalarText(args["state"]))
	switch state {
	case "ON", "TRUE", "1":
		state = "ON"
	case "OFF", "FALSE", "0":
		state = "OFF"
	case "TOGGLE":
	default:
		return "", "", nil, Refuse("bad argument", "state takes on, off or toggle")
	}
	word := "POWER"
	also := "POWER1" // gear with several outputs calls the first one so
	if relay, given := args["relay"]; given && relay != nil {
		n, _ := parseInt(scalarText(relay))
		if n < 1 || n > 32 {
			return "", "", nil, Refuse("bad argument", "relay takes 1 to 32")
		}
		word += strconv.FormatInt(n, 10)
		if also = word; n == 1 {
			also = "POWER"
		}
	}
	return word, state, func(key, value string) bool {
		return (key == word || key == also) && (value == state || state == "TOGGLE" && (value == "ON" || value == "OFF"))
	}, nil
}

func tasmotaLevelPlan(word, argument string, least, most int64) func(map[string]any) (string, string, tasmotaAnswer, error) {
	return func(args map[string]any) (string, string, tasmotaAnswer, error) {
		level, _ := parseInt(scalarText(args[argument]))
		if level < least || level > most {
			return "", "", nil, Refuse("bad argument", "%s takes %d to %d", argument, least, most)
		}
		text := strconv.FormatInt(level, 10)
		return word, text, func(key, value string) bool { return key == word && value == text }, nil
	}
}

var tasmotaHex = regexp.MustCompile(`^#?([0-9A-Fa-f]{6}|[0-9A-Fa-f]{8}|[0-9A-Fa-f]{10})$`)

func tasmotaColorPlan(args map[string]any) (string, string, tasmotaAnswer, error) {
	m := tasmotaHex.FindStringSubmatch(scalarText(args["color"]))
	if m == nil {
		return "", "", nil, Refuse("bad argument", "color takes RRGGBB, RRGGBBWW or RRGGBBCWWW")
	}
	hex := strings.ToUpper(m[1])
	return "Color", "#" + hex, func(key, value string) bool {
		// SetOption17: decimal numbers, and channels that were not asked for.
		return key == "Color" && (strings.HasPrefix(value, hex) || strings.HasPrefix(value+",", tasmotaDecimal(hex)+","))
	}, nil
}

func tasmotaDecimal(hex string) string {
	var parts []string
	for i := 0; i+2 <= len(hex); i += 2 {
		n, _ := strconv.ParseUint(hex[i:i+2], 16, 8)
		parts = append(parts, strconv.FormatUint(n, 10))
	}
	return strings.Join(parts, ",")
}

var tasmotaWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,31}$`)

func tasmotaAnyPlan(args map[string]any) (string, string, tasmotaAnswer, error) {
	word := scalarText(args["command"])
	if !tasmotaWord.MatchString(word) {
		return "", "", nil, Refuse("bad argument", "command takes the name of a command, 1 to 32 letters and digits")
	}
	payload, err := textValue("payload", args["payload"])
	if err != nil {
		return "", "", nil, err
	}
	if strings.HasPrefix(strings.ToLower(word), "backlog") {
		return word, payload, nil, nil // its parts answer, and not in a way that says to what
	}
	want := strings.ToUpper(word)
	if want == "STATUS" && payload != "" {
		return word, payload, func(key, _ string) bool { return key == "STATUS"+payload || payload == "0" && key == "STATUS" }, nil
	}
	return word, payload, func(key, _ string) bool {
		// "PulseTime" is answered by "PulseTime1".
		return strings.EqualFold(key, word) || strings.TrimRight(strings.ToUpper(key), "0123456789") == want
	}, nil
}
