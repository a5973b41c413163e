package client

import "testing"

// A device that comes back resumes its TLS session, which spares it the
// verification of a certificate, with a binding of the new connection.
func TestReconnectingResumesTheTLSSession(t *testing.T) {
	p := newPeer(t)
	start(t, p.config())
	first := p.accept(t)
	first.welcome()
	first.close(1001, "")
	second := p.accept(t)
	second.welcome() // checks the proof over the new binding
	if first.state.DidResume || !second.state.DidResume {
		t.Errorf("resumed: %v and then %v; want false and true", first.state.DidResume, second.state.DidResume)
	}
}
