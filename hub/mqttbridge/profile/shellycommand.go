package profile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Command plans "rpc" and "relay" from generation 2 on, "relay", "light",
// "white", "color", "roller" and "announce" before.
func (p *shelly) Command(gear string, c Command) (Plan, error) {
	d := p.devices[gear]
	switch {
	case d == nil:
		return Plan{}, Refuse("not heard yet", "which generation the gear is of is known when it was heard")
	case d.rpc:
		return p.call(gear, c)
	case c.Name == "light" || c.Name == "white":
		if _, dims := c.Args["brightness"]; dims {
			return shellyDim(gear, c)
		}
		return d.turn(gear, c)
	case c.Name == "relay", c.Name == "color":
		return d.turn(gear, c)
	case c.Name == "roller":
		return d.roll(gear, c)
	case c.Name == "announce":
		if err := onlyArguments(c); err != nil {
			return Plan{}, err
		}
		topic := shellyPrefix + "/" + gear
		return Plan{
			Publish: []Publish{{Topic: topic + "/command", Payload: []byte("announce")}},
			Turn:    topic + "/announce",
			Match: func(m Message) (Answer, bool) {
				if m.Retained || m.Topic != topic+"/announce" || CheckJSON(m.Payload) != nil || len(m.Payload) > maxShellyResult {
					return Answer{}, false
				}
				return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_SUCCEEDED, Result: slices.Clone(m.Payload)}, true
			},
		}, nil
	}
	return Plan{}, unknownCommand(c.Name, "relay", "light", "white", "color", "roller", "announce")
}

// maxShellyResult is how long a result may be to be handed on.
const maxShellyResult = 16 << 10

// turn is "on", "off" or "toggle" of generation 1. Its answer is the topic of
// the relay; one that is toggled answers with the other state than the last
// that is known, as its state comes every 30 s of itself.
func (d *shellyDevice) turn(gear string, c Command) (Plan, error) {
	if err := onlyArguments(c, "channel", "turn"); err != nil {
		return Plan{}, err
	}
	topic, err := shellyOutput(c)
	if err != nil {
		return Plan{}, err
	}
	turn, err := oneOf(c, "turn", "on", "off", "toggle")
	if err != nil {
		return Plan{}, err
	}
	want := []string{turn}
	if turn == "toggle" {
		want = []string{"on", "off"}
		if before := d.relays[topic]; before == "on" || before == "off" {
			want = slices.DeleteFunc(want, func(s string) bool { return s == before })
		}
	}
	return shellyPlan(gear, topic, topic+"/command", turn, want...), nil
}

// roll moves a roller of generation 1.
func (d *shellyDevice) roll(gear string, c Command) (Plan, error) {
	if err := onlyArguments(c, "channel", "go", "position"); err != nil {
		return Plan{}, err
	}
	topic, err := shellyOutput(c)
	if err != nil {
		return Plan{}, err
	}
	to, err := oneOf(c, "go", "open", "close", "stop", "to_pos")
	if err != nil {
		return Plan{}, err
	}
	position, given := c.Args["position"]
	if given != (to == "to_pos") {
		return Plan{}, Refuse("bad argument", "position belongs to to_pos, and to_pos needs one")
	}
	if !given {
		return shellyPlan(gear, topic, topic+"/command", to, to), nil
	}
	number, _ := position.(json.Number)
	n, ok := parseInt(number.String())
	if !ok || n < 0 || n > 100 {
		return Plan{}, Refuse("bad argument", "position takes 0 to 100")
	}
	text := strconv.FormatInt(n, 10)
	return shellyPlan(gear, topic+"/pos", topic+"/command/pos", text, text), nil
}

// shellyPlan publishes to a topic of generation 1 and takes one of the wanted
// payloads of another for the answer.
func shellyPlan(gear, from, to, payload string, want ...string) Plan {
	topic := shellyPrefix + "/" + gear + "/"
	return Plan{
		Publish: []Publish{{Topic: topic + to, Payload: []byte(payload)}},
		Turn:    topic + from,
		Match: func(m Message) (Answer, bool) {
			if m.Retained || m.Topic != topic+from {
				return Answer{}, false
			}
			switch got := string(m.Payload); {
			case slices.Contains(want, got):
				return succeeded(map[string]any{"state": got}), true
			case got == "overpower":
				return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: 9, Message: "overpower: the device has switched itself off"}, true
			}
			return Answer{}, false
		},
	}
}

// shellyOutput is the topic of a channel: "relay/0".
func shellyOutput(c Command) (string, error) {
	channel, err := shellyChannelOf(c)
	return c.Name + "/" + strconv.FormatInt(channel, 10), err
}

func shellyChannelOf(c Command) (int64, error) {
	value, given := c.Args["channel"]
	if !given {
		return 0, nil
	}
	number, _ := value.(json.Number)
	n, ok := parseInt(number.String())
	if !ok || n < 0 || n > 99 {
		return 0, Refuse("bad argument", "channel takes a number from 0")
	}
	return n, nil
}

func oneOf(c Command, name string, words ...string) (string, error) {
	word, _ := c.Args[name].(string)
	if !slices.Contains(words, word) {
		return "", Refuse("bad argument", "%s takes %s", name, strings.Join(words, ", "))
	}
	return word, nil
}

// call is a remote procedure call: the request goes to <prefix>/rpc, the
// answer with the same id to <reply-to>/rpc.
func (p *shelly) call(gear string, c Command) (Plan, error) {
	request := struct {
		ID     string `json:"id"`
		Src    string `json:"src"`
		Method string `json:"method"`
		Params any    `json:"params,omitempty"`
	}{ID: c.ID, Src: p.settings.ReplyTo}
	switch c.Name {
	case "rpc":
		if err := onlyArguments(c, "method", "params"); err != nil {
			return Plan{}, err
		}
		request.Method, _ = c.Args["method"].(string)
		if request.Method == "" || len(request.Method) > 128 {
			return Plan{}, Refuse("bad argument", "method takes a name as Switch.Set")
		}
		if params, given := c.Args["params"]; given {
			if _, object := params.(map[string]any); !object {
				return Plan{}, Refuse("bad argument", "params takes an object")
			}
			request.Params = params
		}
	case "relay":
		if err := onlyArguments(c, "channel", "turn"); err != nil {
			return Plan{}, err
		}
		channel, err := shellyChannelOf(c)
		if err != nil {
			return Plan{}, err
		}
		turn, err := oneOf(c, "turn", "on", "off", "toggle")
		if err != nil {
			return Plan{}, err
		}
		request.Method, request.Params = "Switch.Set", map[string]any{"id": channel, "on": turn == "on"}
		if turn == "toggle" {
			request.Method, request.Params = "Switch.Toggle", map[string]any{"id": channel}
		}
	default:
		return Plan{}, unknownCommand(c.Name, "rpc", "relay")
	}
	payload, err := json.Marshal(request)
	if err != nil {
		return Plan{}, Refuse("bad argument", "%v", err)
	}
	return Plan{
		Publish: []Publish{{Topic: gear + "/rpc", Payload: payload}},
		Match:   matchShellyResponse(p.settings.ReplyTo+"/rpc", c.ID),
		Named:   true,
	}, nil
}

// matchShellyResponse takes the response with the id of the request.
func matchShellyResponse(topic, id string) func(Message) (Answer, bool) {
	return func(m Message) (Answer, bool) {
		if m.Retained || m.Topic != topic {
			return Answer{}, false
		}
		var response struct {
			ID     any             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Code    int    `json:"code"`
				Message string `json:"message"`
			} `json:"error"`
		}
		if DecodeJSON(m.Payload, &response) != nil || response.ID != any(id) {
			return Answer{}, false
		}
		if e := response.Error; e != nil {
			return Answer{Phase: devicev1.CommandPhase_COMMAND_PHASE_FAILED, Code: shellyCode(e.Code),
				Message: clean(fmt.Sprintf("%d: %s", e.Code, e.Message), 1024)}, true
		}
		answer := succeeded(nil)
		if len(response.Result) > 0 && response.Result[0] == '{' && len(response.Result) <= maxShellyResult {
			answer.Result = response.Result
		}
		return answer, true
	}
}

// shellyCode is a google.rpc.Code for an error of the RPC protocol
// (shelly-api-docs.shelly.cloud/gen2/General/CommonErrors).
func shellyCode(code int) uint32 {
	switch code {
	case -103, 400:
		return 3 // INVALID_ARGUMENT
	case -104:
		return 4 // DEADLINE_EXCEEDED
	case -105:
		return 5 // NOT_FOUND
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED: no such method
	case -108, 429:
		return 8 // RESOURCE_EXHAUSTED
	case -109:
		return 9 // FAILED_PRECONDITION
	case -114, 503:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}
