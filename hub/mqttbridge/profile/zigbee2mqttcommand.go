package profile

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
	"github.com/tetherline/tetherline/telemetry"
)

var (
	zigbeeGet = commandSettings{Name: "get", Description: "have the device tell a property", Args: []argumentSettings{
		{Name: "property", Type: "text", Description: "as state"},
	}}
	zigbeeRequest = commandSettings{Name: "request", Description: "ask Zigbee2MQTT itself", Args: []argumentSettings{
		{Name: "request", Type: "text", Description: "as permit_join or device/rename"},
		{Name: "payload", Optional: true, Description: "a JSON object, as {\"time\": 60}"},
	}}
)

func describeZigbeeBridge() *devicev1.Describe {
	var d description
	(&command{settings: zigbeeRequest}).describe(&d)
	return d.done()
}

// Command of a device is set or get; of the bridge, request.
func (p *zigbee) Command(gear string, c Command) (Plan, error) {
	if gear == zigbeeBridge {
		if c.Name != "request" {
			return Plan{}, unknownCommand(c.Name, "request")
		}
		return p.request(c)
	}
	gear = strings.Clone(gear)
	switch c.Name {
	case "set":
		return p.set(gear, c)
	case "get":
		return p.get(gear, c)
	}
	return Plan{}, unknownCommand(c.Name, "set", "get")
}

// set publishes the arguments as they are. The answer is a state that shows
// them: Zigbee2MQTT publishes one when the device has confirmed, and logs
// what went wrong otherwise.
func (p *zigbee) set(gear string, c Command) (Plan, error) {
	if len(c.Args) == 0 {
		return Plan{}, Refuse("missing argument", "set takes properties of the device, as state")
	}
	payload, err := json.Marshal(c.Args)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%v", err)
	}
	plan := Plan{Publish: []Publish{{Topic: p.base + gear + "/set", Payload: payload}}}
	want := p.awaited(gear, c.Args)
	if len(want) == 0 {
		return plan, nil // an effect or a move: the state does not tell
	}
	plan.Match = func(m Message) (Answer, bool) {
		if failed, ok := p.failed(m, gear, "set", c.Args); ok {
			return failed, true
		}
		return p.shows(m, gear, want)
	}
	return plan, nil
}

func (p *zigbee) get(gear string, c Command) (Plan, error) {
	if err := (&command{settings: zigbeeGet}).check(c.Args); err != nil {
		return Plan{}, err
	}
	property := scalarText(c.Args["property"])
	if property == "" || len(property) > 64 {
		return Plan{}, Refuse("bad argument", "property takes 1 to 64 bytes")
	}
	asked := map[string]any{property: ""}
	payload, err := json.Marshal(asked)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%v", err)
	}
	want := []zigbeeWant{{key: property}}
	return Plan{
		Publish: []Publish{{Topic: p.base + gear + "/get", Payload: payload}},
		Match: func(m Message) (Answer, bool) {
			if failed, ok := p.failed(m, gear, "get", asked); ok {
				return failed, true
			}
			return p.shows(m, gear, want)
		},
	}, nil
}

// zigbeeWant is what a state has to show.
type zigbeeWant struct {
	key    string
	value  any    // nil: any value
	before string // of a toggle: any value but this one; "": any
}

// zigbeeMomentary are properties that no state shows (Zigbee2MQTT,
// "Devices": transition, brightness_move and the like).
var zigbeeMomentary = regexp.MustCompile(`^(transition|effect|alert|identify|on_time|off_wait_time|hue_power_on.*|scene_.*|read|write|command|.*_(move|step|onoff)(_.*)?)$`)

func (p *zigbee) awaited(gear string, args map[string]any) (want []zigbeeWant) {
	d := p.devices[gear]
	for key, value := range args {
		if zigbeeMomentary.MatchString(key) || d != nil && d.published != nil && !d.published[key] {
			continue
		}
		w := zigbeeWant{key: key, value: value}
		if text, ok := value.(string); ok && strings.EqualFold(text, "toggle") {
			w.value = nil
			if h := p.heard[gear]; h != nil {
				w.before = h.states[escapePath(key)]
			}
		}
		want = append(want, w)
	}
	return want
}

// escapePath makes a key the path of a leaf.
func escapePath(key string) string { return strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(key) }

// shows tells whether a message is a state of the gear that shows all of it.
func (p *zigbee) shows(m Message, gear string, want []zigbeeWant) (Answer, bool) {
	if m.Retained || len(m.Topic) != len(p.base)+len(gear) || !strings.HasPrefix(m.Topic, p.base) || !strings.HasSuffix(m.Topic, gear) {
		return Answer{}, false
	}
	leaves, _, err := p.flattener.Flatten(m.Payload)
	if err != nil {
		return Answer{}, false
	}
	for _, w := range want {
		if !w.in(leaves) {
			return Answer{}, false
		}
	}
	return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: result(m.Payload)}, true
}

func (w zigbeeWant) in(leaves []Leaf) bool {
	path := escapePath(w.key)
	if parts, ok := w.value.(map[string]any); ok {
		return zigbeeParts(path, parts, leaves)
	}
	for _, l := range leaves {
		switch {
		case l.Path != path && !strings.HasPrefix(l.Path, path+"."):
		case w.value == nil:
			return w.before == "" || l.text() != w.before
		default:
			return l.Path == path && l.near(w.value)
		}
	}
	return false
}

// zigbeeParts are of a composite. A colour may be asked for as x and y, hue
// and saturation, hex or rgb; the state tells the first two.
func zigbeeParts(path string, parts map[string]any, leaves []Leaf) bool {
	shown := false
	for _, l := range leaves {
		key, below := strings.CutPrefix(l.Path, path+".")
		if !below {
			continue
		}
		shown = true
		if value, asked := parts[key]; asked && !l.near(value) {
			return false
		}
	}
	return shown
}

// near tells whether a leaf shows a value: a number to half a percent,
// because devices have 8 or 16 bits of their own for it (255 of brightness is
// shown as 254); texts without regard to case.
func (l Leaf) near(want any) bool {
	text := scalarText(want)
	if l.Value.Kind() != telemetry.Double {
		return strings.EqualFold(l.text(), text)
	}
	v, err := strconv.ParseFloat(text, 64)
	return err == nil && math.Abs(v-l.Value.Float64()) <= math.Abs(v)*0.005
}

// failed tells whether a message is Zigbee2MQTT's log of a failure of this
// very command.
func (p *zigbee) failed(m Message, gear, verb string, args map[string]any) (Answer, bool) {
	if topic, ok := strings.CutPrefix(m.Topic, p.base); !ok || topic != "bridge/logging" || m.Retained {
		return Answer{}, false
	}
	var log struct{ Level, Message string }
	if DecodeJSON(m.Payload, &log) != nil || log.Level != "error" {
		return Answer{}, false
	}
	if strings.Contains(log.Message, "Entity '"+gear+"' is unknown") {
		return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_REJECTED, Code: codeInvalidArgument, Message: clean(log.Message, 1024)}, true
	}
	for key := range args {
		if strings.Contains(log.Message, "Publish '"+verb+"' '"+key+"' to '"+gear+"' failed") {
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: codeUnknown, Message: clean(log.Message, 1024)}, true
		}
	}
	return Answer{}, false
}

var zigbeeRequestName = regexp.MustCompile(`^[a-z_]+(/[a-z_]+)*$`)

// request is answered on bridge/response with the transaction of the request.
func (p *zigbee) request(c Command) (Plan, error) {
	if err := (&command{settings: zigbeeRequest}).check(c.Args); err != nil {
		return Plan{}, err
	}
	name := scalarText(c.Args["request"])
	if !zigbeeRequestName.MatchString(name) || len(name) > 64 {
		return Plan{}, Refuse("bad argument", "request takes a topic below bridge/request, as permit_join")
	}
	body := map[string]any{}
	if given := c.Args["payload"]; given != nil {
		object, ok := given.(map[string]any)
		if !ok {
			return Plan{}, Refuse("bad argument", "payload takes a JSON object")
		}
		for key, value := range object {
			body[key] = value
		}
	}
	body["transaction"] = c.ID
	payload, err := json.Marshal(body)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%v", err)
	}
	return Plan{
		Publish: []Publish{{Topic: p.base + "bridge/request/" + name, Payload: payload}},
		Match: func(m Message) (Answer, bool) {
			return zigbeeResponse(m, p.base+"bridge/response/"+name, c.ID)
		},
		Named: true,
	}, nil
}

func zigbeeResponse(m Message, topic, id string) (Answer, bool) {
	if m.Topic != topic || m.Retained {
		return Answer{}, false
	}
	var r struct {
		Status      string `json:"status"`
		Error       string `json:"error"`
		Transaction any    `json:"transaction"`
	}
	if DecodeJSON(m.Payload, &r) != nil || r.Transaction != any(id) || !slices.Contains([]string{"ok", "error"}, r.Status) {
		return Answer{}, false
	}
	if r.Status == "error" {
		return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: codeUnknown, Message: clean(r.Error, 1024), Result: result(m.Payload)}, true
	}
	return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: result(m.Payload)}, true
}
