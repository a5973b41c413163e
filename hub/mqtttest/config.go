package mqtttest

import (
	"cmp"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Names in the folder of a broker.
const (
	configFile     = "mosquitto.conf"
	usersFile      = "users"
	aclFile        = "acl"
	caFile         = "ca.pem"
	certFile       = "cert.pem"
	keyFile        = "key.pem"
	clientCertFile = "client-cert.pem"
	clientKeyFile  = "client-key.pem"
)

// manyMessages stands for no bound of a queue. With no bound at all, Mosquitto
// 2.0.11 ends the connection of a client whose message the ACL refuses.
const manyMessages = 1_000_000

func (b *Broker) writeConfig(t testing.TB, o MosquittoOptions) {
	t.Helper()
	host, port, err := net.SplitHostPort(b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"listener " + port + " " + host,
		"log_dest stderr",
		"log_type error", "log_type warning", "log_type notice",
		"max_queued_messages " + fmt.Sprint(cmp.Or(o.MaxQueued, manyMessages)),
		fmt.Sprintf("set_tcp_nodelay %v", !o.Nagle),
		fmt.Sprintf("allow_anonymous %v", o.Users == nil),
		fmt.Sprintf("persistence %v", o.Persistent),
		"user root", // where it is started by root, that it may read its folder
	}
	if o.Persistent {
		lines = append(lines, "persistence_location "+b.dir+"/", "autosave_interval "+fmt.Sprint(o.AutosaveEach))
		if o.AutosaveEach > 0 {
			lines = append(lines, "autosave_on_changes true")
		}
	}
	if o.MaxInflight > 0 {
		lines = append(lines, "max_inflight_messages "+fmt.Sprint(o.MaxInflight))
	}
	if o.MaxPacketSize > 0 {
		lines = append(lines, "max_packet_size "+fmt.Sprint(o.MaxPacketSize))
	}
	if o.Users != nil {
		lines = append(lines, "password_file "+b.write(t, usersFile, passwords(t, o.Users)))
	}
	if o.ACL != nil {
		lines = append(lines, "acl_file "+b.write(t, aclFile, []byte(strings.Join(o.ACL, "\n")+"\n")))
	}
	if b.TLS != nil {
		lines = append(lines,
			"cafile "+filepath.Join(b.dir, caFile),
			"certfile "+filepath.Join(b.dir, certFile),
			"keyfile "+filepath.Join(b.dir, keyFile),
			fmt.Sprintf("require_certificate %v", o.ClientCertTLS))
	}
	lines = append(lines, o.Lines...)
	b.write(t, configFile, []byte(strings.Join(lines, "\n")+"\n"))
}

// passwords makes a password_file in Mosquitto 2's form:
// user:$7$iterations$salt$PBKDF2-HMAC-SHA512.
func passwords(t testing.TB, users map[string]string) []byte {
	t.Helper()
	const iterations = 101 // Mosquitto's own
	var text []byte
	names := make([]string, 0, len(users))
	for name := range users {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		salt := make([]byte, 12)
		_, _ = rand.Read(salt) // never fails
		hash, err := pbkdf2.Key(sha512.New, users[name], salt, iterations, sha512.Size)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "%s:$7$%d$%s$%s\n", name, iterations,
			base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(hash))
	}
	return text
}
