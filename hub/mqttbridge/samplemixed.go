package mqttbridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// A store has one type for a field. Gear of its own making may send now true
// and now "on" for one: then the config has to say what it is, or the store
// takes the one and refuses the other.

// mixed is a field of which values of several types came.
type mixed struct {
	place string   // as the kind's setting "fields" names it
	texts []string // what came, up to maxMixedTexts different ones
	as    string   // the type that the setting gives it
}

const maxMixedTexts = 64

// words say what was seen and what the config makes of it.
func (m *mixed) words(field string) string {
	some := m.texts
	if len(some) > 4 {
		some = some[:4]
	}
	return bounded(fmt.Sprintf("field %s is mixed, as %s: the config takes it as %s", field, strings.Join(some, ", "), m.as))
}

// settle finds out the types of mixed fields of the proposed drafts. It is
// true where there are new ones: the profiles are to be made again.
func (s *study) settle(all seen, route map[string]*draft) (fresh bool) {
	for _, d := range s.drafts {
		if !d.proposed || d.Kind != "raw" && d.Kind != "json" {
			continue
		}
		known := s.mixed[d.key]
		open := make(map[string]*mixed)
		for _, g := range d.gear {
			for key := range g.mixed {
				if known[key.name] == nil {
					open[key.name] = &mixed{}
				}
			}
		}
		for key := range d.across() {
			if known[key.name] == nil {
				open[key.name] = &mixed{}
			}
		}
		if len(open) == 0 {
			continue
		}
		d.collect(all, route, open)
		for name, m := range open {
			if m.place == "" {
				continue
			}
			m.as = typeOf(m.texts)
			if s.mixed[d.key] == nil {
				s.mixed[d.key] = make(map[string]*mixed)
			}
			s.mixed[d.key][name] = m
			fresh = true
		}
	}
	return fresh
}

// across are the fields that are of one type of some gear and of another of
// other: they meet in one measurement.
func (d *draft) across() map[fieldKey]bool {
	kinds, odd := make(map[fieldKey]int32), make(map[fieldKey]bool)
	for _, g := range d.gear {
		for key, f := range g.fields {
			if k, known := kinds[key]; known && k != int32(f.Kind) {
				odd[key] = true
			}
			kinds[key] = int32(f.Kind)
		}
	}
	return odd
}

// separate gives a proposed profile a measurement of its own where a field of
// it is of another type than in a profile before it: stores have one type for
// a field of a measurement. It is true where there is such a profile that did
// not have one.
func (s *study) separate() (fresh bool) {
	kinds := make(map[fieldKey]devicev1.Kind)
	for _, d := range s.drafts {
		for _, g := range d.gear {
			for key, f := range g.fields {
				before := kinds[key]
				if before != f.Kind && before != 0 && f.Kind != 0 && d.proposed && (d.Kind == "raw" || d.Kind == "json") && !s.apart[d.key] {
					s.apart[d.key], fresh = true, true
				}
			}
		}
		for _, g := range d.gear {
			for key, f := range g.fields {
				kinds[key] = f.Kind
			}
		}
	}
	return fresh
}

// collect what came for the fields.
func (d *draft) collect(all seen, route map[string]*draft, fields map[string]*mixed) {
	add := func(name, place, text string) {
		m := fields[name]
		if m == nil {
			return
		}
		m.place = place
		if len(m.texts) < maxMixedTexts && !slices.Contains(m.texts, text) {
			m.texts = append(m.texts, text)
		}
	}
	for _, m := range all.kept {
		if route[m.Topic] != d {
			continue
		}
		if d.Kind == "raw" {
			level := m.Topic[strings.LastIndexByte(m.Topic, '/')+1:]
			add(profile.FieldName(level), level, strings.TrimSpace(string(m.Payload)))
			continue
		}
		var f profile.Flattener
		leaves, _, err := f.Flatten(m.Payload)
		if err != nil {
			continue
		}
		for i := range leaves {
			add(leaves[i].Name, leaves[i].Path, leafText(&leaves[i]))
		}
	}
}

// notValues are words for "there is no value", which decide nothing.
var notValues = []string{"", "-", "n/a", "na", "nan", "nil", "none", "null", "unknown", "unavailable", "error"}

var boolWords = []string{"true", "false", "on", "off", "yes", "no", "1", "0"}

// typeOf is the type that takes all of the texts, or all but those that stand
// for no value.
func typeOf(texts []string) string {
	values := slices.DeleteFunc(slices.Clone(texts), func(t string) bool { return slices.Contains(notValues, strings.ToLower(t)) })
	is := func(of func(string) bool) bool {
		return len(values) > 0 && !slices.ContainsFunc(values, func(t string) bool { return !of(t) })
	}
	switch {
	case is(func(t string) bool { return slices.Contains(boolWords, strings.ToLower(t)) }):
		return "bool"
	case is(func(t string) bool { _, err := strconv.ParseFloat(t, 64); return err == nil }):
		return "number"
	}
	return "text"
}

// fieldsSetting gives mixed fields a type, in the words of the kind.
func fieldsSetting(kind string, fields map[string]*mixed) []map[string]any {
	place := "field"
	if kind == "json" {
		place = "path"
	}
	var setting []map[string]any
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		setting = append(setting, map[string]any{place: fields[name].place, "type": fields[name].as})
	}
	return setting
}

// tellMixed says of gear which of its fields were mixed.
func (s *study) tellMixed() {
	for _, d := range s.drafts {
		for _, g := range d.gear {
			for _, key := range slices.SortedFunc(maps.Keys(g.fields), func(a, b fieldKey) int { return strings.Compare(a.name, b.name) }) {
				m := s.mixed[d.key][key.name]
				switch {
				case m != nil && d.proposed && g.sent[key]:
					g.fields[key].Description = "mixed"
					g.problem = m.words(key.name)
				case g.mixed[key] != "":
					g.fields[key].Description = g.mixed[key]
					g.problem = fmt.Sprintf("field %s is %s: a store may refuse all but the first", key.name, g.mixed[key])
				}
			}
		}
	}
}

func boolText(v bool) string { return strconv.FormatBool(v) }

func numberText(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
