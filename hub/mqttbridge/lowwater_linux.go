package mqttbridge

import (
	"net"
	"syscall"
)

// setLowWater has the kernel report what comes on a connection only when it is
// so many bytes, or the end. The runtime's poller is woken by whatever the
// kernel reports, though nobody reads. What cannot do that reports all.
func setLowWater(conn net.Conn, bytes int) {
	if tls, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = tls.NetConn()
	}
	if socket, ok := conn.(*net.TCPConn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
			})
		}
	}
}
