// Package mqttbridge presents legacy gear behind MQTT brokers as devices of
// the hub: in the list, with presence, readings in the store, and commands
// with a known end.
package mqttbridge
