package profile

// Announcing is a Profile that knows of gear whether it tells of its presence:
// by births, an availability topic or a last will. All other gear is taken for
// gear that is there until it has been silent for too long, or a report says
// otherwise.
type Announcing interface {
	Profile
	// Announced reports whether the gear is only there when a message says so,
	// or whether that is not known yet.
	Announced(gear string) bool
}

// Announced implements Announcing: births and deaths tell all.
func (p *sparkplug) Announced(string) bool { return true }

// Announced implements Announcing: every device has $state.
func (p *homie) Announced(string) bool { return true }

// Announced implements Announcing: gear has an availability topic, or has none.
func (s *source) Announced(string) bool { return s.availability != nil }

// Announced implements Announcing. Without discovery nothing is known.
func (p *homeassistant) Announced(gear string) bool {
	g := p.gear[gear]
	if g == nil {
		return true
	}
	for _, e := range g.entities {
		if len(e.availability) > 0 {
			return true
		}
	}
	return false
}

// Announced implements Announcing: nothing is there unless Zigbee2MQTT is, of
// which the broker retains that. With its availability on, the broker retains
// that of each device.
func (p *zigbee) Announced(string) bool { return !p.online }

// Announced implements Announcing: the firmware always has a last will.
func (p *tasmota) Announced(string) bool { return true }

// Announced implements Announcing: either generation always has a last will.
func (p *shelly) Announced(string) bool { return true }
