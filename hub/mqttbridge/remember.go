package mqttbridge

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tetherline/tetherline/hub/mqttbridge/profile"
)

// remembered is what the profiles of a broker want to know after a restart, in
// a journal of its own. It is the worker's.
type remembered struct {
	journal *earlyJournal // topic and payload of a record are key and text
	byKey   map[rememberedKey]*earlyRecord
}

type rememberedKey struct{ profile, key string }

func openRemembered(path string) (r remembered, err error) {
	var found []earlyRecord
	if r.journal, found, err = openEarlyJournal(path); err != nil {
		return r, fmt.Errorf("memories of profiles: %w", err)
	}
	r.byKey = make(map[rememberedKey]*earlyRecord)
	for i := range found {
		at := rememberedKey{found[i].profile, found[i].topic}
		if older := r.byKey[at]; older != nil {
			r.journal.done(older)
		}
		r.byKey[at] = &found[i]
	}
	return r, nil
}

// recall tells the profiles what they knew.
func (b *broker) recall() {
	for at, record := range b.remembered.byKey {
		p := b.boundNamed(at.profile)
		if p == nil || p.remembering == nil {
			b.remembered.forget(at)
			continue
		}
		b.guard(p, func() []profile.Publish {
			p.remembering.Recall(at.key, slices.Clone(record.payload))
			return nil
		})
	}
}

// remembers takes note of what a profile wants to know again.
func (b *broker) remembers(p *bound) {
	if p.remembering == nil {
		return
	}
	for _, m := range p.remembering.Memories() {
		b.remembered.put(rememberedKey{p.cfg.Name, m.Key}, m.Text)
	}
}

func (r *remembered) put(at rememberedKey, text []byte) {
	older := r.byKey[at]
	switch {
	case text == nil:
		r.forget(at)
		return
	case older != nil && bytes.Equal(older.payload, text):
		return
	}
	record := &earlyRecord{profile: at.profile, topic: at.key, payload: text}
	r.journal.add(record) // before the older one is done with: one of them is always there
	r.byKey[at] = record
	if older != nil {
		r.journal.done(older)
	}
}

func (r *remembered) forget(at rememberedKey) {
	if older := r.byKey[at]; older != nil {
		r.journal.done(older)
		delete(r.byKey, at)
	}
}

// syncRemembered makes durable what is new. Where that fails it is tried again
// with the next message: the readings do not wait for it.
func (b *broker) syncRemembered() {
	b.memoryTrouble(b.remembered.journal.sync())
}

// tidyRemembered writes what is forgotten.
func (b *broker) tidyRemembered() {
	b.memoryTrouble(b.remembered.journal.flush(func(yield func(*earlyRecord) bool) {
		for _, record := range b.remembered.byKey {
			if !yield(record) {
				return
			}
		}
	}))
}

func (b *broker) memoryTrouble(err error) {
	if err != nil {
		b.problem(problem{reason: "memories of profiles", detail: err.Error()})
	}
}
