package hub

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"golang.org/x/crypto/bcrypt"

	"github.com/tetherline/tetherline/hub/natsd"
)

// Bounds of the users file.
const (
	maxMQTTUsersBytes = 4 << 20
	maxMQTTUserName   = 128
	maxMQTTPassword   = 72 // bytes; bcrypt takes no more
	maxMQTTHashCost   = 14 // about a second
	mqttHashCost      = bcrypt.DefaultCost
)

// mqttUser is an entry of the users file.
type mqttUser struct {
	User         string   `yaml:"user"`
	PasswordHash string   `yaml:"password-hash"` // bcrypt
	Publish      []string `yaml:"publish"`       // MQTT topic filters; "%u": the user's name
	Subscribe    []string `yaml:"subscribe"`     //
}

// mqttUsers are those of the users file, read again when it changes.
type mqttUsers struct {
	path string
	log  *slog.Logger
	turn chan struct{} // of those who check a password: it takes a processor for a while
	key  []byte        // of proved

	mu     sync.Mutex
	users  map[string]*mqttUser
	proved map[string][sha256.Size]byte // MAC of a user's hash and password that fit; checking them again is cheap
	dummy  []byte                       // a hash that nothing fits, for users there are not
	stamp  fileStamp
	fault  string // why the changed file was not taken, as last logged
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	at   time.Time
	size int64
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}

// HashMQTTPassword makes the password-hash of the users file.
func HashMQTTPassword(password []byte) (string, error) {
	switch {
	case len(password) == 0:
		return "", errors.New("the password is empty")
	case len(password) > maxMQTTPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", maxMQTTPassword)
	}
	hash, err := bcrypt.GenerateFromPassword(password, mqttHashCost)
	return string(hash), err
}

func openMQTTUsers(path string, log *slog.Logger) (*mqttUsers, error) {
	u := &mqttUsers{path: path, log: log, key: make([]byte, sha256.Size), turn: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	_, _ = rand.Read(u.key) // never fails
	if _, err := u.load(); err != nil {
		return nil, err
	}
	return u, nil
}

// load takes the file, and returns what users were there before. On an error
// all stays as it was.
func (u *mqttUsers) load() (before map[string]*mqttUser, err error) {
	stamp := stampOf(u.path)
	users, err := readMQTTUsers(u.path)
	if err != nil {
		return nil, err
	}
	cost := mqttHashCost
	for _, user := range users {
		cost, _ = bcrypt.Cost([]byte(user.PasswordHash)) // they are alike, mostly
	}
	dummy, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	before = u.users
	u.users, u.stamp, u.dummy, u.fault = users, stamp, dummy, ""
	u.proved = make(map[string][sha256.Size]byte)
	return before, nil
}

// authenticate says what a user may do. It takes about as long whether there
// is such a user or not, and waits for its turn as long as ctx lives.
func (u *mqttUsers) authenticate(ctx context.Context, name string, password []byte) (natsd.MQTTRights, bool) {
	u.mu.Lock()
	user, hash := u.users[name], u.dummy
	if user != nil {
		hash = []byte(user.PasswordHash)
	}
	mac := u.mac(hash, password)
	known, proved := u.proved[name]
	u.mu.Unlock()
	if user == nil || !proved || !hmac.Equal(known[:], mac[:]) {
		select {
		case u.turn <- struct{}{}:
		case <-ctx.Done():
			return natsd.MQTTRights{}, false
		}
		err := bcrypt.CompareHashAndPassword(hash, password[:min(len(password), maxMQTTPassword)])
		<-u.turn
		if err != nil || user == nil || len(password) > maxMQTTPassword {
			return natsd.MQTTRights{}, false
		}
		u.mu.Lock()
		if u.users[name] == user {
			u.proved[name] = mac
		}
		u.mu.Unlock()
	}
	return natsd.MQTTRights{Publish: user.Publish, Subscribe: user.Subscribe}, true
}

func (u *mqttUsers) mac(hash, password []byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, u.key)
	mac.Write(hash) // of fixed length
	mac.Write(password)
	mac.Sum(sum[:0])
	return sum
}

// watch reads the file again when it has changed, until ctx ends, and
// disconnects the users whose password or rights are others now.
func (u *mqttUsers) watch(ctx context.Context, disconnect func(gone func(user string) bool) int) {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		u.reload(disconnect)
	}
}

func (u *mqttUsers) reload(disconnect func(gone func(user string) bool) int) {
	u.mu.Lock()
	stamp, fault := u.stamp, u.fault
	u.mu.Unlock()
	if stampOf(u.path) == stamp {
		return
	}
	before, err := u.load()
	if err != nil {
		if err.Error() != fault {
			u.log.Error("users of MQTT have changed but do not load; going on with those before", "error", err)
			u.mu.Lock()
			u.fault = err.Error()
			u.mu.Unlock()
		}
		return
	}
	u.mu.Lock()
	now := u.users
	u.mu.Unlock()
	gone := disconnect(func(user string) bool {
		old, was := before[user]
		return was && !old.same(now[user])
	})
	u.log.Info("users of MQTT reloaded", "users", len(now), "disconnected", gone)
}

func (m *mqttUser) same(o *mqttUser) bool {
	return o != nil && m.PasswordHash == o.PasswordHash &&
		slices.Equal(m.Publish, o.Publish) && slices.Equal(m.Subscribe, o.Subscribe)
}

func readMQTTUsers(path string) (map[string]*mqttUser, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxMQTTUsersBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxMQTTUsersBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []*mqttUser
	if err := yaml.UnmarshalWithOptions(text, &list, yaml.Strict()); err != nil {
		// Without the excerpt: the line may hold a hash.
		return nil, fmt.Errorf("%s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	users := make(map[string]*mqttUser, len(list))
	for i, user := range list {
		if user == nil {
			return nil, fmt.Errorf("%s: entry %d is empty", path, i+1)
		}
		if err := user.complete(); err != nil {
			return nil, fmt.Errorf("%s: entry %d, user %q: %w", path, i+1, user.User, err)
		}
		if users[user.User] != nil {
			return nil, fmt.Errorf("%s: entry %d: user %q is there twice", path, i+1, user.User)
		}
		users[user.User] = user
	}
	return users, nil
}

// complete checks an entry and puts the user's name into its filters.
func (m *mqttUser) complete() error {
	switch {
	case m.User == "" || len(m.User) > maxMQTTUserName || !utf8.ValidString(m.User) || strings.ContainsFunc(m.User, unicode.IsControl):
		return fmt.Errorf("user: takes 1 to %d bytes of text", maxMQTTUserName)
	case strings.HasPrefix(m.User, "$"):
		return errors.New(`user: names that begin with "$" are the hub's own`)
	}
	switch cost, err := bcrypt.Cost([]byte(m.PasswordHash)); {
	case m.PasswordHash == "":
		return errors.New("password-hash: is missing; `hubd mqtt-password` makes one")
	case err != nil:
		return errors.New("password-hash: is no bcrypt hash; `hubd mqtt-password` makes one")
	case cost > maxMQTTHashCost:
		return fmt.Errorf("password-hash: of cost %d would take too long; %d is the most", cost, maxMQTTHashCost)
	case m.Publish == nil && m.Subscribe == nil:
		return errors.New(`names neither publish nor subscribe: for everything write publish: ["#"] and subscribe: ["#"]; for nothing, publish: []`)
	}
	var err error
	if m.Publish, err = m.filters(m.Publish); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if m.Subscribe, err = m.filters(m.Subscribe); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// filters puts the user's name where "%u" is. A name that would change what
// the filter means has no place there.
func (m *mqttUser) filters(list []string) ([]string, error) {
	filters := make([]string, 0, len(list))
	for _, filter := range list {
		if strings.Contains(filter, "%u") {
			if strings.ContainsAny(m.User, "+#/.*>%$") || strings.ContainsFunc(m.User, unicode.IsSpace) {
				return nil, fmt.Errorf(`topic filter %q: "%%u" cannot stand for a user name with + # / . * > %% $ or white space`, filter)
			}
			filter = strings.ReplaceAll(filter, "%u", m.User)
		}
		if err := natsd.CheckMQTTFilter(filter); err != nil {
			return nil, err
		}
		filters = append(filters, filter)
	}
	return filters, nil
}
