package profile

// Kinds are all kinds of gear, in the order in which sampling tries them: the
// most telling first, those that take anything last.
func Kinds() []Kind {
	return []Kind{
		sparkplugKind(),
		homieKind(),
		zigbeeKind(),
		tasmotaKind(),
		shellyKind(),
		homeassistantKind(),
		influxKind(),
		jsonKind(),
		rawKind(),
	}
}

// KindOf finds a kind by its name.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
