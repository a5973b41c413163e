package profile

// Memory is what a profile wants to know again when the hub has been started
// anew. All memories together are bounded as what it keeps of gear is.
type Memory struct {
	Key  string // of the profile's own choice, 1 to 256 bytes
	Text []byte // nil: what was remembered under the key is forgotten
}

// Remembering is a Profile that remembers over a restart of the hub.
type Remembering interface {
	Profile
	// Memories are those that are new since the last call, one a key. They
	// are on disk before anything that comes later is acknowledged.
	Memories() []Memory
	// Recall is called with each memory, in any order, before all else.
	Recall(key string, text []byte)
}

// memories collects what is new. The zero value is ready.
type memories struct{ fresh map[string][]byte }

func (m *memories) note(key string, text []byte) {
	if m.fresh == nil {
		m.fresh = make(map[string][]byte)
	}
	m.fresh[key] = text
}

func (m *memories) take() (all []Memory) {
	for key, text := range m.fresh {
		all = append(all, Memory{Key: key, Text: text})
	}
	clear(m.fresh)
	return all
}
