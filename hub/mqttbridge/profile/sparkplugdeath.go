package profile

// devicesOffline reports all devices of a node.
func (n *sparkplugNode) devicesOffline(reports []Report, reason string) []Report {
	for id, d := range n.devices {
		if !d.heard {
			continue // nobody holds it for online
		}
		t := n.topic
		t.device = id
		reports = append(reports, Report{Gear: t.gear(), Status: Offline, Reason: reason, NotAlive: true})
	}
	return reports
}

// nodeDeath is the last will of a node, or its goodbye. bdSeq ties it to a
// birth: the will of an earlier connection, which may come after the birth of
// the next one, changes nothing.
func (p *sparkplug) nodeDeath(t sparkplugTopic, payload *sparkplugMessage, m Message, reports []Report) ([]Report, error) {
	var lost uint64
	if n := p.nodes[t.gear()]; n != nil {
		bdSeq, has := bdSeqOf(payload)
		switch {
		case n.session && n.hasBdSeq && !has:
			return reports, t.refuse("death without bdSeq", "it cannot be told which connection has died")
		case n.session && n.hasBdSeq && bdSeq != n.bdSeq:
			return reports, t.refuse("old death", "its bdSeq is %d, that of the birth %d", bdSeq, n.bdSeq)
		}
		reports = n.devicesOffline(reports, "its node died (NDEATH)")
		lost = n.count.lost(m.Received, true)
		p.forget(n)
	}
	return append(reports, Report{Gear: t.gear(), Status: Offline, Reason: "NDEATH", NotAlive: true, Lost: lost}), nil
}

// deviceDeath is the node's word that it has lost a device.
func (p *sparkplug) deviceDeath(t sparkplugTopic, payload *sparkplugMessage, m Message, reports []Report) ([]Report, error) {
	report := Report{Gear: t.gear(), Status: Offline, Reason: "DDEATH", NotAlive: true}
	if n := p.nodes[t.nodeGear()]; n != nil {
		var wrong troubles
		report.Lost = n.sequence(payload, m, &wrong)
		if n.doubted {
			report.Publish = n.rebirth(m.Received)
		}
		report.Problem = wrong.String()
		if d := n.devices[t.device]; d != nil {
			p.memory -= d.memory
			p.gear--
			p.memories.note(t.gear(), nil)
			delete(n.devices, t.device)
		}
	}
	return append(reports, report), nil
}
