package mqttbridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"

	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// maxCommentBytes bounds the fields that stand behind a piece of gear.
const maxCommentBytes = 70

// config writes the config that brings the gear of the last look; "" where
// there is none to write.
func (s *study) config(r *SampleRequest, all seen) string {
	gear := 0
	for _, d := range s.drafts {
		gear += len(d.gear)
	}
	if gear == 0 {
		return ""
	}
	w := &yamlWriter{}
	w.comment(0, "From %d messages in %v. Start the hub with --mqtt-bridge and this file.", all.messages, r.Duration)
	if all.left > 0 {
		w.comment(0, "%d of them were too many to be looked at: sample single topics with --filter.", all.left)
	}
	w.comment(0, "Take out what you do not want; `hubctl bridge gear --unknown` shows what else is heard,")
	w.comment(0, `and auto-allow: ["*"] in a profile takes in all of its gear, also what comes later.`)
	w.line(0, "brokers:")
	s.writeBroker(w)
	w.line(2, "profiles:")
	for _, d := range s.drafts {
		d.write(w)
	}
	s.writePublish(w)
	return w.String()
}

func (s *study) writeBroker(w *yamlWriter) {
	b := s.broker
	configured := len(b.Profiles) > 0 || b.Publish != nil
	if configured {
		w.line(1, "- name: %s", scalar(b.Name))
	} else {
		w.line(1, "- name: %-24s # devices are known by it: choose it once", scalar(b.Name))
	}
	w.line(2, "url: %s", scalar(b.URL))
	w.optional(2, "client-id", b.ClientID)
	w.optional(2, "user", b.User)
	switch {
	case b.PasswordFile != "":
		w.optional(2, "password-file", b.PasswordFile)
	case b.User != "" && !configured:
		w.line(2, "password-file: %-15s # a file beside this one that holds the password", scalar(b.Name+".password"))
	}
	w.optional(2, "ca", b.CA)
	w.optional(2, "cert", b.Cert)
	w.optional(2, "key", b.Key)
	if b.KeepAlive != 0 {
		w.line(2, "keep-alive: %v", b.KeepAlive)
	}
	if b.MaxPendingBytes != 0 {
		w.line(2, "max-pending-bytes: %d", b.MaxPendingBytes)
	}
}

func (s *study) writePublish(w *yamlWriter) {
	p := s.broker.Publish
	if p == nil {
		return
	}
	w.line(2, "publish:")
	w.line(3, "prefix: %s", scalar(p.Prefix))
	w.optional(3, "discovery", p.Discovery)
	w.optional(3, "selector", p.Selector)
	if p.Retain {
		w.line(3, "retain: true")
	}
}

func (d *draft) write(w *yamlWriter) {
	w.line(3, "- kind: %s", scalar(d.Kind))
	if d.Name != d.Kind {
		w.line(4, "name: %s", scalar(d.Name))
	}
	if settings := d.settingsText(); settings != "" {
		w.line(4, "settings:")
		for _, line := range strings.Split(settings, "\n") {
			w.line(5, "%s", line)
		}
	}
	if d.Silence != nil {
		w.line(4, "silence: %v", *d.Silence)
	}
	w.optional(4, "id-prefix", d.IDPrefix)
	if len(d.AutoAllow) > 0 {
		var globs []string
		for _, glob := range d.AutoAllow {
			globs = append(globs, scalar(glob))
		}
		w.line(4, "auto-allow: [%s]", strings.Join(globs, ", "))
	}
	if d.MaxDevices != 0 {
		w.line(4, "max-devices: %d", d.MaxDevices)
	}
	w.labels(4, d.Labels)
	d.writeDevices(w)
}

func (d *draft) writeDevices(w *yamlWriter) {
	found := slices.DeleteFunc(d.sorted(), func(g *foundGear) bool { return g.known })
	if len(d.Devices)+len(found) == 0 {
		return
	}
	w.line(4, "devices:")
	for _, c := range d.Devices {
		w.line(5, "- gear: %s", scalar(c.Gear))
		if c.ID != deviceID(d.IDPrefix, c.Gear) {
			w.line(6, "id: %s", scalar(c.ID))
		}
		w.labels(6, c.Labels)
	}
	for _, g := range found {
		text := scalar(g.name)
		if fields := fieldsComment(g.fieldList()); fields != "" {
			text = fmt.Sprintf("%-24s # %s", text, fields)
		}
		w.line(5, "- gear: %s", text)
		if g.id != deviceID(d.IDPrefix, g.name) {
			w.line(6, "id: %s", scalar(g.id))
		}
	}
}

// settingsText is the settings as YAML; "": none.
func (d *draft) settingsText() string {
	var settings any = d.settings
	if !d.proposed {
		var kept yaml.MapSlice
		if d.decodeSettings(&kept) != nil || len(kept) == 0 {
			return ""
		}
		settings = kept
	} else if len(d.settings) == 0 {
		return ""
	}
	text, err := yaml.MarshalWithOptions(settings, yaml.IndentSequence(true))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(text), "\n")
}

// fieldsComment lists fields with their units, as many as fit.
func fieldsComment(fields []*devicev1.FieldDescription) string {
	var b strings.Builder
	for i, f := range fields {
		word := f.Name
		if f.Unit != "" {
			word += " " + f.Unit
		}
		if b.Len()+len(word) > maxCommentBytes {
			fmt.Fprintf(&b, " and %d more", len(fields)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(word)
	}
	return b.String()
}

// yamlWriter writes lines, indented by two blanks a level. What comes from
// gear goes into a line as a scalar or a comment and cannot leave it.
type yamlWriter struct{ strings.Builder }

func (w *yamlWriter) line(depth int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.WriteString(strings.Repeat("  ", depth) + strings.Map(inLine, text) + "\n")
}

// inLine leaves out what ends a line, or is not to be seen.
func inLine(r rune) rune {
	if !unicode.IsPrint(r) {
		return -1
	}
	return r
}

func (w *yamlWriter) comment(depth int, format string, args ...any) {
	w.line(depth, "# "+format, args...)
}

func (w *yamlWriter) optional(depth int, key, value string) {
	if value != "" {
		w.line(depth, "%s: %s", key, scalar(value))
	}
}

func (w *yamlWriter) labels(depth int, labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, scalar(key)+": "+scalar(labels[key]))
	}
	w.line(depth, "labels: {%s}", strings.Join(pairs, ", "))
}

var plainScalar = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_/.-]*(:[A-Za-z0-9_/.-]+)*$`)

// yamlWords are those that YAML, of one version or another, takes for
// something else than text.
var yamlWords = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

// scalar is a text as YAML: as it is, or in quotes as JSON has them.
func scalar(s string) string {
	if plainScalar.MatchString(s) && !slices.Contains(yamlWords, strings.ToLower(s)) {
		return s
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSpace(b.String())
}
