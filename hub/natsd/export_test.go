package natsd

// InnerMQTTAddr is where the embedded server itself listens.
func InnerMQTTAddr(n *Node) string {
	n.embedded.logins.mu.Lock()
	defer n.embedded.logins.mu.Unlock()
	return n.embedded.logins.addr
}
