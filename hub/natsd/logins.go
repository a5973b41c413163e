package natsd

import (
	"crypto/rand"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// logins says who the clients of the embedded server are, where it is an MQTT
// broker too: connections within the process are the hub's, those by TCP come
// through the door with a ticket that it has given them. It outlives the
// server, which may be restarted.
type logins struct {
	mu      sync.Mutex
	account *server.Account // of MQTT; nil: not open
	addr    string          // of the server's MQTT listener
	tickets map[string]ticket

	door atomic.Pointer[MQTT] // that hears of clients; nil: it is not open
}

// ticket lets one connection in.
type ticket struct {
	user        string
	permissions *server.Permissions
}

func newLogins() *logins { return &logins{tickets: make(map[string]ticket)} }

// serve lets MQTT clients into account; addr is where the door finds the
// server. nil: none any more.
func (l *logins) serve(account *server.Account, addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account, l.addr = account, addr
}

// heard has the door hear a line of the server's log. It may be called on nil,
// where there is no MQTT.
func (l *logins) heard(line string) {
	if l == nil {
		return
	}
	if m := l.door.Load(); m != nil {
		m.heard(line)
	}
}

// issue makes a ticket, a password of the server's, and says where to show
// it; addr is "" where the server is restarting. Revoke it in the end.
func (l *logins) issue(t ticket) (password, addr string) {
	password = rand.Text()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.account == nil {
		return "", ""
	}
	l.tickets[password] = t
	return password, l.addr
}

func (l *logins) revoke(password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tickets, password)
}

// Check implements server.Authentication.
func (l *logins) Check(c server.ClientAuthentication) bool {
	remote := c.RemoteAddress()
	if remote == nil {
		return false // closed meanwhile
	}
	l.mu.Lock()
	account := l.account
	t, found := l.tickets[c.GetOpts().Password]
	if found {
		delete(l.tickets, c.GetOpts().Password)
	}
	l.mu.Unlock()
	if remote.Network() == "pipe" {
		// This process. It stays in the global account unless it says so.
		if c.GetOpts().Username == mqttAccount {
			if account == nil {
				return false
			}
			c.RegisterUser(&server.User{Username: mqttAccount, Account: account})
		}
		return true
	}
	if !found || account == nil {
		return false
	}
	c.RegisterUser(&server.User{Username: t.user, Account: account, Permissions: t.permissions})
	return true
}
