package mqttbridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

const (
	kindSparkplug = "sparkplug"
	// birthsAtOnce is how many nodes, at most, are asked for their births in
	// one sampleTick: each answers with all that it has.
	birthsAtOnce = 20
)

// births asks the Sparkplug nodes that a sample hears without their birth for
// one, as the specification has host applications do (Sparkplug 3.0.0, 6.4.20
// and 6.4.22, "Node Control/Rebirth"): their names, types and devices are in
// no other message. Each node is asked once. It is for one goroutine.
type births struct {
	publish func(profile.Publish) error
	quiet   bool     // nobody is asked
	filters []string // of the sample

	profile profile.Profile // of all groups
	looked  int             // messages of the recording
	waiting []profile.Publish
	seen    map[string]bool  // nodes that are asked, or are not to be
	asked   map[string]error // of the asking
}

func newBirths(r *SampleRequest, publish func(profile.Publish) error) *births {
	b := &births{publish: publish, quiet: r.NoRebirth, filters: r.Filters, seen: make(map[string]bool), asked: make(map[string]error)}
	kind, _ := profile.KindOf(kindSparkplug)
	b.profile, _ = kind.New(func(any) error { return nil }) // of the defaults: no error
	return b
}

// ask for the births that the messages which have come since lack.
func (b *births) ask(kept []profile.Message) {
	if b.quiet {
		return
	}
	var reports []profile.Report
	for _, m := range kept[b.looked:] {
		if !matchesAny(b.profile.Filters(), m.Topic) {
			continue
		}
		reports, _ = b.profile.Decode(m, reports[:0])
		for i := range reports {
			if unborn(&reports[i]) {
				b.want(reports[i].Publish)
			}
		}
	}
	b.looked = len(kept)
	now := b.waiting[:min(len(b.waiting), birthsAtOnce)]
	b.waiting = b.waiting[len(now):]
	for _, p := range now {
		b.asked[nodeOf(p.Topic)] = b.publish(p)
	}
}

// unborn reports whether a message was of gear whose birth was not heard.
func unborn(r *profile.Report) bool {
	return r.Awaited
}

func (b *births) want(requests []profile.Publish) {
	for _, p := range requests {
		node := nodeOf(p.Topic)
		if b.seen[node] {
			continue
		}
		b.seen[node] = true
		if b.hears(node) {
			b.waiting = append(b.waiting, p)
		}
	}
}

// nodeOf is the node, as group/node, that a topic spBv1.0/group/NCMD/node is
// of.
func nodeOf(topic string) string {
	levels := strings.Split(topic, "/")
	if len(levels) < 4 {
		return ""
	}
	return levels[1] + "/" + levels[3]
}

// hears reports whether the sample listens to the births of a node.
func (b *births) hears(node string) bool {
	group, name, _ := strings.Cut(node, "/")
	return matchesAny(b.filters, "spBv1.0/"+group+"/NBIRTH/"+name)
}

// nodes are those that were asked, in order.
func (b *births) nodes() (asked []string) {
	for node, err := range maps.All(b.asked) {
		if err == nil {
			asked = append(asked, node)
		}
	}
	slices.Sort(asked)
	return asked
}

// lacking says why nothing is known of gear whose birth was not heard.
func (b *births) lacking(gear string) string {
	const unknown = "its fields and devices are told by its birth alone, which was before the sample: "
	group, rest, _ := strings.Cut(gear, "/")
	name, _, _ := strings.Cut(rest, "/")
	node := group + "/" + name
	err, asked := b.asked[node]
	switch {
	case b.quiet:
		return unknown + "it was not asked for, as you wished"
	case !b.hears(node):
		return unknown + "it was not asked for, because the filters of the sample leave births out"
	case !asked:
		return unknown + "there was no time left to ask for it; sample longer"
	case err != nil:
		return unknown + fmt.Sprintf("it could not be asked for: %v", err)
	}
	return unknown + "it was asked for and has not come; sample longer, or let the hub publish to spBv1.0/+/NCMD/# on this broker"
}
