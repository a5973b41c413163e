package natsd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
)

// MQTTRights are what a client may do: MQTT topic filters. An empty list is
// nothing; "#" is every topic but those that begin with "$".
type MQTTRights struct {
	Publish   []string
	Subscribe []string
}

// maxFilterBytes is MQTT's own bound.
const maxFilterBytes = 65535

// sparkplugTopics are the only topics beginning with "$" that clients may
// have. The server keeps the latest birth of each Sparkplug node there,
// retained, and hands it to every new subscription whose filter matches, also
// by a wildcard in the first level, which MQTT 3.1.1 section 4.7.2 does not
// let reach topics that begin with "$". So they are denied to who has no right
// that names them.
const (
	sparkplugTopics   = "$sparkplug/"
	sparkplugSubjects = "$sparkplug.>"
)

// serverSubjects are the server's own in an account, which a filter that
// begins with a wildcard must not reach. Its $MQTT subjects are not among
// those denied to subscribers: their deliveries come by them, and the server
// itself keeps clients from subscribing to them.
var serverSubjects = []string{"$JS.>", "$SYS.>", "$KV.>", "$O.>", "$SRV.>", "$NRG.>"}

// CheckMQTTFilter says what is wrong with a filter of MQTTRights.
func CheckMQTTFilter(filter string) error {
	_, err := filterSubjects(filter)
	return err
}

// permissions are the server's form of r.
func (r MQTTRights) permissions() (*server.Permissions, error) {
	publish, err := subjectPermission(r.Publish, "$MQTT.>")
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	subscribe, err := subjectPermission(r.Subscribe)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return &server.Permissions{Publish: publish, Subscribe: subscribe}, nil
}

func subjectPermission(filters []string, denied ...string) (*server.SubjectPermission, error) {
	p := &server.SubjectPermission{Deny: append(denied, serverSubjects...)}
	for _, filter := range filters {
		subjects, err := filterSubjects(filter)
		if err != nil {
			return nil, err
		}
		p.Allow = append(p.Allow, subjects...)
	}
	if !slices.ContainsFunc(filters, func(f string) bool { return strings.HasPrefix(f, sparkplugTopics) }) {
		p.Deny = append(p.Deny, sparkplugSubjects)
	}
	if len(p.Allow) == 0 {
		// To the server, no list means everything.
		p.Deny = []string{">"}
	}
	return p, nil
}

// filterSubjects are the NATS subjects that together match what an MQTT
// filter does. "a/#" also matches "a".
func filterSubjects(filter string) ([]string, error) {
	if err := checkFilter(filter); err != nil {
		return nil, fmt.Errorf("topic filter %q: %w", filter, err)
	}
	subject := filterSubject(filter)
	if parent, isTree := strings.CutSuffix(subject, ".>"); isTree {
		return []string{subject, parent}, nil
	}
	return []string{subject}, nil
}

func checkFilter(filter string) error {
	switch {
	case filter == "":
		return errors.New("is empty")
	case len(filter) > maxFilterBytes:
		return fmt.Errorf("is longer than %d bytes", maxFilterBytes)
	case !utf8.ValidString(filter):
		return errors.New("is not UTF-8")
	case strings.HasPrefix(filter, "$") && !strings.HasPrefix(filter, sparkplugTopics):
		return errors.New(`topics that begin with "$" are the broker's own`)
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case level == "+", level == "#" && i == len(levels)-1:
		case level == "#":
			return errors.New(`"#" stands for all further levels: it can only be the last`)
		case strings.ContainsAny(level, "+#"):
			return errors.New(`"+" and "#" stand for whole levels`)
		case strings.ContainsFunc(level, unusable):
			return errors.New(`the embedded broker has no topics with white space, control characters, "*" or ">"`)
		}
	}
	return nil
}

// unusable are characters that the server refuses in topics, or takes for
// wildcards of its own.
func unusable(r rune) bool {
	return r <= ' ' || r == 0x7f || r == '*' || r == '>'
}

// filterSubject converts as the server does (mqttToNATSSubjectConversion of
// its mqtt.go): '/' separates levels and becomes '.'; an empty level becomes
// "/"; a '.' within a level becomes "//".
func filterSubject(filter string) string {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch level {
		case "":
			levels[i] = "/"
		case "+":
			levels[i] = "*"
		case "#":
			levels[i] = ">"
		default:
			levels[i] = strings.ReplaceAll(level, ".", "//")
		}
	}
	return strings.Join(levels, ".")
}
