package mqttbridge

import (
	"slices"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// cover is the least topic filters to subscribe to, so that everything that
// one of filters matches comes, and nothing comes twice: brokers may send a
// message once for each subscription that matches, and a repetition that is
// not marked as one would be a second reading. Filters that overlap give way
// to one that covers both, which may match more.
func cover(filters []string) []string {
	kept := slices.Clone(filters)
	for i := 0; i < len(kept); i++ {
		for j := i + 1; j < len(kept); {
			if !overlap(kept[i], kept[j]) {
				j++
				continue
			}
			kept[i] = join(kept[i], kept[j])
			kept = slices.Delete(kept, j, j+1)
			i, j = 0, 1 // it may overlap with what was looked at before
		}
	}
	return kept
}

// everything is what to subscribe to on the embedded broker: all, besides topics
// that begin with "$", which no wildcard in front matches. That broker sends
// ahead a number of messages for each subscription, but no more than that for
// all of a session: of what is over it comes half a minute later, behind what
// was published after it. And with a subscription it drops what waits under it:
// one that is there whatever the config says is never ended.
func everything(filters []string) []string {
	var out []string
	all := false
	for _, f := range filters {
		if strings.HasPrefix(f, "$") {
			out = append(out, f)
		} else {
			all = true
		}
	}
	if all {
		out = append(out, "#")
	}
	return cover(out)
}

// overlap reports whether a topic may match both.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	if strings.HasPrefix(a, "$") != strings.HasPrefix(b, "$") {
		return false // wildcards in front do not match "$"
	}
	for i := 0; ; i++ {
		switch {
		case i < len(as) && as[i] == "#", i < len(bs) && bs[i] == "#":
			return true // "a/#" matches "a" too
		case i == len(as) || i == len(bs):
			return i == len(as) && i == len(bs) ||
				i == len(as) && bs[i] == "#" || i == len(bs) && as[i] == "#"
		case as[i] != bs[i] && as[i] != "+" && bs[i] != "+":
			return false
		}
	}
}

// join is the narrowest filter that covers both.
func join(a, b string) string {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	var out []string
	for i := 0; i < len(as) || i < len(bs); i++ {
		if i >= len(as) || i >= len(bs) || as[i] == "#" || bs[i] == "#" {
			return strings.Join(append(out, "#"), "/")
		}
		level := as[i]
		if level != bs[i] {
			level = "+"
		}
		out = append(out, level)
	}
	return strings.Join(out, "/")
}

// matchesAny reports whether one of filters matches the topic.
func matchesAny(filters []string, topic string) bool {
	for _, f := range filters {
		if profile.TopicMatches(f, topic) {
			return true
		}
	}
	return false
}
