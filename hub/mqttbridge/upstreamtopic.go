package mqttbridge

import (
	"cmp"
	"strings"

	"github.com/tetherline/tetherline/device"
)

// Names of upstream: what the hub publishes of the devices that speak its own
// protocol.
//
//	<prefix>/availability                      online, offline: the hub itself (retained, last will)
//	<prefix>/<device>/availability             online, offline (retained)
//	<prefix>/<device>/<measurement>            a reading, JSON
//	<discovery>/<component>/<node>/<measurement>-<field>/config   (retained)
//
// Device ids, measurements and fields are safe in topics, and none of the two
// latter has a '-': so the measurement "availability" gets a topic of its own.
const (
	availability         = "availability"
	measuredAvailability = "availability-readings"

	online  = "online"
	offline = "offline"
)

// naming makes the topics of one PublishConfig.
type naming struct {
	prefix    string
	discovery string // "": none
	node      string // what node ids in discovery topics begin with
}

func newNaming(p *PublishConfig) naming {
	prefix := cmp.Or(p.Prefix, DefaultPrefix)
	node := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, prefix)
	return naming{prefix: prefix, discovery: p.Discovery, node: node + "-"}
}

func (n *naming) hub() string                   { return n.prefix + "/" + availability }
func (n *naming) availability(id string) string { return n.prefix + "/" + id + "/" + availability }

func (n *naming) readings(id, measurement string) string {
	if measurement == availability {
		measurement = measuredAvailability
	}
	return n.prefix + "/" + id + "/" + measurement
}

func (n *naming) config(component, id, measurement, field string) string {
	return n.discovery + "/" + component + "/" + n.node + id + "/" + measurement + "-" + field + "/config"
}

// own reports whether the hub itself publishes on a topic.
func (n *naming) own(topic string) bool {
	if rest, ok := strings.CutPrefix(topic, n.prefix); ok && strings.HasPrefix(rest, "/") {
		return true
	}
	_, ours := n.discovered(topic)
	return ours
}

// discovered is the device that a discovery topic of this hub is about.
func (n *naming) discovered(topic string) (id string, ours bool) {
	if n.discovery == "" {
		return "", false
	}
	rest, ok := strings.CutPrefix(topic, n.discovery+"/")
	if !ok {
		return "", false
	}
	levels := strings.Split(rest, "/")
	if len(levels) != 4 || levels[3] != "config" || levels[0] != sensor && levels[0] != binarySensor {
		return "", false
	}
	id, ok = strings.CutPrefix(levels[1], n.node)
	return id, ok && device.CheckID(id) == nil
}

// told is the device that a topic below the prefix is about, and its last
// level.
func (n *naming) told(topic string) (id, last string, ours bool) {
	rest, ok := strings.CutPrefix(topic, n.prefix+"/")
	if !ok {
		return "", "", false
	}
	id, last, ok = strings.Cut(rest, "/")
	return id, last, ok && !strings.Contains(last, "/") && device.CheckID(id) == nil
}
