package mqttbridge

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	"github.com/tetherline/tetherline/telemetry"
)

// What gear of its own making says about its presence, mostly as its last
// will, is a word on a topic beside its readings: "sensors/attic/status" with
// "online". By itself that would be taken for one more value of the gear, or
// for gear of its own.

// presenceLevels are levels of topics that tell presence: telling ones by
// themselves, the others with one of the words that mean nothing else.
var presenceLevels = map[string]bool{
	"availability": true, "available": true, "avail": true, "avty": true, "online": true, "lwt": true, "will": true,
	"connected": true, "connection": true, "presence": true, "alive": true,
	"status": false, "state": false, "stat": false,
}

// presenceWords are pairs of words for there and away. The first ones mean
// nothing else, and the very first is what a profile takes by itself.
var presenceWords = []struct {
	online, offline string
	plain           bool
}{
	{"online", "offline", true}, {"connected", "disconnected", true}, {"available", "unavailable", true}, {"alive", "dead", true},
	{"true", "false", false}, {"1", "0", false}, {"up", "down", false},
}

// presenceKinds are the kinds of gear whose presence a setting has to name.
var presenceKinds = []string{"influx", "json", "raw"}

// presence is a topic that seems to tell presence.
type presence struct {
	topic  string
	levels []string
	path   string   // in a JSON document; "": the payload is the word
	words  []string // that were heard
	named  bool     // by one of its levels; else by its words alone
}

// presenceOf reads a topic as one that tells presence.
func presenceOf(t seenTopic) (p presence, ok bool) {
	p = presence{topic: t.name, levels: strings.Split(t.name, "/")}
	var telling bool
	for i := len(p.levels) - 1; i >= 0 && !p.named; i-- {
		telling, p.named = presenceLevels[strings.ToLower(p.levels[i])]
		telling = telling && i == len(p.levels)-1
	}
	for i, m := range t.first {
		path, word := presenceWord(m.Payload)
		pair := pairOf(word)
		if pair < 0 || !telling && !presenceWords[pair].plain || !p.named && !m.Retained || i > 0 && path != p.path {
			return p, false
		}
		p.path = path
		if !slices.Contains(p.words, word) {
			p.words = append(p.words, word)
		}
	}
	return p, len(t.first) > 0 && len(p.levels) > 1
}

// presenceWord is the payload, or the only value of the document that it is.
func presenceWord(payload []byte) (path, word string) {
	text := strings.TrimSpace(string(payload))
	if !strings.HasPrefix(text, "{") {
		return "", text
	}
	var f profile.Flattener
	leaves, _, err := f.Flatten(payload)
	if err != nil || len(leaves) != 1 {
		return "", ""
	}
	return leaves[0].Path, leafText(&leaves[0])
}

// pairOf is the place of the pair that a word is of, in small, capital or
// initial capital letters; -1: none.
func pairOf(word string) int {
	small := strings.ToLower(word)
	for i, pair := range presenceWords {
		if small == pair.online || small == pair.offline {
			return i
		}
	}
	return -1
}

// presences takes the topics that tell presence out of those that are open.
func (s *study) presences() (all []presence) {
	s.open = slices.DeleteFunc(s.open, func(t seenTopic) bool {
		p, ok := s.isPresence(t)
		if ok {
			all = append(all, p)
		}
		return ok
	})
	return all
}

// isPresence asks once about the first messages of a topic.
func (s *study) isPresence(t seenTopic) (presence, bool) {
	v := s.told[t.name]
	if v == nil || v.looked < len(t.first) {
		v = &toldPresence{looked: len(t.first)}
		v.presence, v.ok = presenceOf(t)
		s.told[t.name] = v
	}
	return v.presence, v.ok
}

// toldPresence is what was made of the first messages of a topic.
type toldPresence struct {
	presence
	looked int
	ok     bool
}

// attach gives each presence to the profile that its gear is of, and says of
// the others why they are left.
func (s *study) attach(all []presence) {
	if len(all) == 0 {
		return
	}
	for _, d := range s.drafts {
		if d.proposed && slices.Contains(presenceKinds, d.Kind) {
			all = s.attachTo(d, all)
		}
	}
	for _, p := range all {
		if !slices.ContainsFunc(s.drafts, func(d *draft) bool { return matchesAny(d.filters, p.topic) }) {
			s.rest[p.topic] = rejected{stands: true, reason: "it looks like the presence of gear of which nothing else was heard (sample longer), or which has a profile: name it as availability there", payload: []byte(strings.Join(p.words, " "))}
		}
	}
}

// attachTo takes the presence topics of a draft's gear: those of the pattern
// that the most of them have. It returns the others.
func (s *study) attachTo(d *draft, all []presence) (left []presence) {
	topic, _ := d.settings["topic"].(string)
	place := slices.Index(strings.Split(topic, "/"), "{gear}")
	if place < 0 {
		return all
	}
	gear := make(map[string]bool)
	for _, t := range d.topics {
		if levels := strings.Split(t, "/"); place < len(levels) {
			gear[levels[place]] = true
		}
	}
	type form struct{ pattern, path string }
	forms := make(map[form][]presence)
	for _, p := range all {
		if pattern := p.pattern(topic, place, gear); pattern != "" {
			f := form{pattern, p.path}
			forms[f] = append(forms[f], p)
		}
	}
	var best form
	for f := range forms {
		if c := cmp.Compare(len(forms[f]), len(forms[best])); c > 0 || c == 0 && f.pattern < best.pattern {
			best = f
		}
	}
	if best.pattern == "" || !d.with("availability", availabilityOf(best.pattern, best.path, forms[best])) {
		return all
	}
	return slices.DeleteFunc(all, func(p presence) bool { return matchesAny(d.filters, p.topic) })
}

// pattern of the presence topics of gear whose readings have the other one, of
// which the level at place is the gear; "": it is of other gear.
func (p *presence) pattern(of string, place int, gear map[string]bool) string {
	levels := slices.Clone(p.levels)
	of, _, _ = strings.Cut(of, "{gear}")
	last := len(levels) - 1
	switch {
	case place <= last && gear[levels[place]] && strings.HasPrefix(p.topic, of) && (p.named && place < last || place == last):
	case !p.named:
		return ""
	default:
		// The levels may stand otherwise: "status/attic".
		place = slices.IndexFunc(levels, func(l string) bool { return gear[l] })
		first, _, more := strings.Cut(of, "/")
		if place < 1 || more && levels[0] != first {
			return ""
		}
	}
	levels[place] = "{gear}"
	return strings.Join(levels, "/")
}

// availabilityOf is the setting, with the words where a profile does not know
// them by itself.
func availabilityOf(pattern, path string, all []presence) map[string]any {
	setting := map[string]any{"topic": pattern}
	if path != "" {
		setting["path"] = path
	}
	var online, offline []string
	own := false
	for _, p := range all {
		for _, word := range p.words {
			pair := presenceWords[pairOf(word)]
			own = own || !slices.Contains([]string{"online", "true", "1"}, pair.online)
			there, away := likeWord(pair.online, word), likeWord(pair.offline, word)
			if !slices.Contains(online, there) {
				online, offline = append(online, there), append(offline, away)
			}
		}
	}
	if own {
		slices.Sort(online)
		slices.Sort(offline)
		setting["online"], setting["offline"] = online, offline
	}
	return setting
}

// likeWord writes a small word in the letters of another one.
func likeWord(small, like string) string {
	switch like {
	case strings.ToLower(like):
		return small
	case strings.ToUpper(like):
		return strings.ToUpper(small)
	}
	return strings.ToUpper(small[:1]) + small[1:]
}

// leafText is a value as text.
func leafText(l *profile.Leaf) string {
	switch l.Value.Kind() {
	case telemetry.String:
		return l.Value.Str()
	case telemetry.Bool:
		return boolText(l.Value.Bool())
	}
	return numberText(l.Value.Float64())
}
