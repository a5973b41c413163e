package profile

// Topics are those that discovery has named so far: of states, availability
// and commands. A profile whose filters leave one out makes nothing of it.
func (p *homeassistant) Topics() []string {
	named := map[string]bool{}
	for _, g := range p.gear {
		for _, e := range g.entities {
			named[e.stateTopic], named[e.commandTopic] = true, true
			for _, a := range e.availability {
				named[a.topic] = true
			}
		}
	}
	delete(named, "") // of an entity that has none
	topics := make([]string, 0, len(named))
	for topic := range named {
		topics = append(topics, topic)
	}
	return topics
}
