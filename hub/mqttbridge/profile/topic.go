package profile

import "strings"

// TopicMatches reports whether an MQTT topic filter matches a topic (MQTT
// 3.1.1, section 4.7): '+' is one level, a last '#' the level before it and
// all below; a wildcard at the front matches no topic that begins with '$'.
func TopicMatches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !filterMore && !topicMore:
			return true
		case filterMore && !topicMore:
			return filterRest == "#"
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
