//go:build !linux

package mqttbridge

import "net"

// setLowWater does nothing here: it saves CPU time on Linux.
func setLowWater(net.Conn, int) {}
