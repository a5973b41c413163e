package mqttbridge

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// decode gives the settings to a kind as a config file with them would.
func (d *draft) decode(into any) error {
	if len(d.settings) == 0 {
		return nil
	}
	text, err := yaml.Marshal(d.settings)
	if err != nil {
		return err
	}
	return yaml.UnmarshalWithOptions(text, into, yaml.Strict())
}

// replay puts the messages through the profiles: each to the first one whose
// filter matches, as the bridge does. It returns where each topic goes.
func (s *study) replay(all seen) (route map[string]*draft) {
	route = make(map[string]*draft, len(all.topics))
	good := make(map[string]bool, len(all.topics))
	var reports []profile.Report
	for _, m := range all.kept {
		d, known := route[m.Topic]
		if !known {
			if i := slices.IndexFunc(s.drafts, func(d *draft) bool { return matchesAny(d.filters, m.Topic) }); i >= 0 {
				d = s.drafts[i]
			}
			route[m.Topic] = d
		}
		if d == nil {
			s.reject(m, "no kind of gear is known that sends this")
			continue
		}
		reports = s.decode(d, m, good, reports[:0])
	}
	for _, m := range s.early {
		m.Early = true // what describes it may have come since
		reports = s.decode(route[m.Topic], m, good, reports[:0])
	}
	s.early = nil
	s.describe(all, route)
	return route
}

// decode a message and take what it says. One that is early is to be offered
// again.
func (s *study) decode(d *draft, m profile.Message, good map[string]bool, reports []profile.Report) []profile.Report {
	reports, err := d.profile.Decode(m, reports)
	var early *profile.Early
	switch {
	case errors.As(err, &early):
		if !m.Early {
			s.early = append(s.early, m)
		}
	case err != nil:
		if !good[m.Topic] {
			s.reject(m, fmt.Sprintf("%s: %s", d.Name, err))
		}
		d.complain(err)
		return reports
	}
	good[m.Topic] = true
	delete(s.rest, m.Topic)
	for i := range reports {
		d.take(&reports[i])
	}
	return reports
}

// describe asks for the descriptions that are not told as often as they
// change: what was heard last on each topic, as if it came much later.
func (s *study) describe(all seen, route map[string]*draft) {
	var reports []profile.Report
	for _, t := range all.topics {
		d := route[t.name]
		if d == nil || len(t.first) == 0 {
			continue
		}
		m := t.first[len(t.first)-1]
		m.Received = m.Received.Add(time.Hour)
		reports, _ = d.profile.Decode(m, reports[:0])
		for i := range reports {
			if g := d.gear[reports[i].Gear]; g != nil && reports[i].Describe != nil {
				g.described(reports[i].Describe)
			}
		}
	}
}

func (s *study) reject(m profile.Message, reason string) {
	if strings.HasPrefix(m.Topic, "$") {
		return // the broker tells of itself
	}
	before := s.rest[m.Topic]
	if before.stands {
		reason = before.reason
	}
	if reason != before.reason || before.stands {
		s.rest[m.Topic] = rejected{reason: reason, stands: before.stands, payload: m.Payload}
	}
}

// unrecognised are the topics that brought nothing, those with the most
// messages first.
func (s *study) unrecognised(all seen) []SampledTopic {
	var out []SampledTopic
	for _, t := range all.topics {
		if r, ok := s.rest[t.name]; ok {
			out = append(out, SampledTopic{Topic: t.name, Messages: t.count, Payload: shown(r.payload), Reason: r.reason})
		}
	}
	slices.SortStableFunc(out, func(a, b SampledTopic) int { return cmp.Compare(b.Messages, a.Messages) })
	return out[:min(len(out), maxUnrecognised)]
}

// shown is the beginning of a payload, printable.
func shown(payload []byte) string {
	cut := payload
	if len(cut) > maxPayloadShown {
		cut = cut[:maxPayloadShown]
	}
	text := strings.ToValidUTF8(string(cut), "·")
	text = strings.Map(func(r rune) rune {
		if !printable(string(r)) {
			return '·'
		}
		return r
	}, text)
	if len(payload) > maxPayloadShown {
		text += "…"
	}
	return text
}
