package profile

import (
	"errors"
	"fmt"
	"strings"
)

// sparkplugNamespace is the first level of every topic.
const sparkplugNamespace = "spBv1.0"

// The verbs of messages that come from nodes, and of those that go to them.
const (
	nbirth = "NBIRTH"
	ndeath = "NDEATH"
	ndata  = "NDATA"
	dbirth = "DBIRTH"
	ddeath = "DDEATH"
	ddata  = "DDATA"
	ncmd   = "NCMD"
	dcmd   = "DCMD"
)

// sparkplugTopic is spBv1.0/group/verb/node[/device].
type sparkplugTopic struct {
	group, verb, node, device string
}

// notOfSparkplugGear reports whether a topic is of hosts: of the commands that
// they send, this hub among them, and of their state.
func notOfSparkplugGear(topic string) bool {
	rest, _ := strings.CutPrefix(topic, sparkplugNamespace+"/")
	group, rest, _ := strings.Cut(rest, "/")
	verb, _, _ := strings.Cut(rest, "/")
	return group == "STATE" || verb == ncmd || verb == dcmd
}

// parseSparkplugTopic takes topics of births, data and deaths. Its strings
// are copies.
func parseSparkplugTopic(topic string) (sparkplugTopic, error) {
	var t sparkplugTopic
	levels := strings.Split(strings.Clone(topic), "/")
	if len(levels) < 4 || len(levels) > 5 || levels[0] != sparkplugNamespace {
		return t, Refuse("not a Sparkplug topic", "%s", quoted(topic))
	}
	t = sparkplugTopic{group: levels[1], verb: levels[2], node: levels[3]}
	if len(levels) == 5 {
		t.device = levels[4]
	}
	switch t.verb {
	case nbirth, ndata, ndeath:
		if len(levels) != 4 {
			return t, Refuse("not a Sparkplug topic", "%s with a device", t.verb)
		}
	case dbirth, ddata, ddeath:
		if t.device == "" {
			return t, Refuse("not a Sparkplug topic", "%s without a device", t.verb)
		}
	default:
		return t, Refuse("not a Sparkplug topic", "verb %s", quoted(t.verb))
	}
	if t.group == "" || t.node == "" {
		return t, Refuse("not a Sparkplug topic", "an empty level")
	}
	return t, checkGear(t.gear())
}

// gear is the name of the gear that the topic is of.
func (t sparkplugTopic) gear() string {
	if t.device == "" {
		return t.nodeGear()
	}
	return t.group + "/" + t.node + "/" + t.device
}

func (t sparkplugTopic) nodeGear() string { return t.group + "/" + t.node }

// to is the topic of a command.
func (t sparkplugTopic) to(verb string) string {
	topic := sparkplugNamespace + "/" + t.group + "/" + verb + "/" + t.node
	if verb == dcmd {
		topic += "/" + t.device
	}
	return topic
}

func (t sparkplugTopic) refuse(reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...), Gear: t.gear()}
}

// at names the gear of a Refusal.
func at(err error, gear string) error {
	if r := (*Refusal)(nil); errors.As(err, &r) && r.Gear == "" {
		r.Gear = gear
	}
	return err
}

// checkLevel refuses a setting that is not one level of a topic.
func checkLevel(key, level string) error {
	if level == "" || strings.ContainsAny(level, "/+#\x00") {
		return fmt.Errorf("%s: %s is no single level of a topic", key, quoted(level))
	}
	return nil
}
