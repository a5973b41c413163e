package natsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of the MQTT broker.
const (
	DefaultMQTTStore = 512 << 20
	MinMQTTStore     = 16 << 20

	// mqttMaxPending bounds the QoS 1 and 2 messages that a session has not
	// acknowledged. The server wants the sum over a session's subscriptions
	// below 65,536, and one that ends in "/#" counts twice: 127 subscriptions
	// with QoS 1 of a session, 63 of those.
	mqttMaxPending = 512
	// mqttMaxSubscriptions bounds those of one connection, of any QoS.
	mqttMaxSubscriptions = 5000
	mqttMaxConsumers     = 20_000
	// mqttQueueAge is how long a message waits for a session that is away.
	mqttQueueAge = 7 * 24 * time.Hour
)

// mqttAccount is where all MQTT clients are. The hub's own client is in the
// server's global account, and neither sees the other's subjects.
const mqttAccount = "MQTT"

// loginTimeout bounds how long a client of the embedded server may take to
// log in: the hub's own, or the broker's door, both in this process.
const loginTimeout = 30 * time.Second

// storeTimeout bounds how long the server lets a client's message wait for its
// turn on the disk before it ends the connection. The client would send it
// again, behind what waits already, which harms where the disk is slow; where
// it fails, the server is restarted only after this time. See mqttWindow.
const storeTimeout = 10 * time.Second

// MQTTConfig lets the embedded server be an MQTT 3.1.1 broker.
type MQTTConfig struct {
	// MaxStore bounds what MQTT sessions, queued and retained messages take
	// on disk, in bytes, besides Config.MaxStore; 0: DefaultMQTTStore; at
	// least MinMQTTStore.
	MaxStore int64
}

func (c *Config) completeMQTT() error {
	if c.MQTT == nil {
		return nil
	}
	if c.URL != "" {
		return errors.New("nats: the MQTT broker is one of the embedded server, and there is none with the URL of a cluster")
	}
	m := *c.MQTT
	if m.MaxStore == 0 {
		m.MaxStore = DefaultMQTTStore
	}
	if m.MaxStore < MinMQTTStore {
		return fmt.Errorf("nats: max store of MQTT is %d bytes; it takes at least %d", m.MaxStore, MinMQTTStore)
	}
	c.MQTT = &m
	return nil
}

// mqttOptions adds the broker to the options of the embedded server. It
// listens on loopback, for the door alone: see MQTTDoor.
func mqttOptions(o *server.Options, cfg *MQTTConfig, logins *logins) {
	o.JetStreamMaxStore += max(cfg.MaxStore, reservedForMQTT(o.StoreDir))
	o.CustomClientAuthentication = logins
	o.AuthTimeout = loginTimeout.Seconds()
	o.MaxSubs = mqttMaxSubscriptions
	o.MQTT.Host = "127.0.0.1"
	o.MQTT.Port = server.RANDOM_PORT
	o.MQTT.MaxAckPending = mqttMaxPending
	o.MQTT.JSAPITimeout = storeTimeout
}

// openMQTT makes the account of MQTT clients in a server that has started.
// The account is made here and not in the options: with accounts there, the
// server would give its global one, the hub's, no JetStream by itself.
func (e *embedded) openMQTT(srv *server.Server, opts *server.Options) error {
	account, _ := srv.LookupOrRegisterAccount(mqttAccount)
	// Each stream has its bound; clients cannot make more of them.
	err := account.EnableJetStream(map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: 0, MaxStore: -1, MaxStreams: len(mqttStreams(0)), MaxConsumers: mqttMaxConsumers, MaxAckPending: -1,
	}}, nil)
	if err != nil {
		return fmt.Errorf("open the store of MQTT: %w", err)
	}
	e.logins.serve(account, net.JoinHostPort(opts.MQTT.Host, strconv.Itoa(opts.MQTT.Port)))
	return nil
}

// shutMQTT lets no MQTT client in until the next openMQTT.
func (e *embedded) shutMQTT() {
	if e.logins != nil {
		e.logins.serve(nil, "")
	}
}

// parkedMQTT is where MQTT's part of the store is while no server with MQTT
// runs: a server without calls itself broken where it finds the folder of an
// account that it does not know.
const parkedMQTT = "mqtt"

func mqttStore(dir string) string {
	return filepath.Join(dir, server.JetStreamStoreDir, mqttAccount)
}

// parkMQTT puts MQTT's part of the store aside, if there is one.
func parkMQTT(dir string) error { return moveFolder(mqttStore(dir), filepath.Join(dir, parkedMQTT)) }

// unparkMQTT puts it where the server of e wants it, or aside where the
// server that ran last was killed and e has no MQTT.
func (e *embedded) unparkMQTT() error {
	if e.cfg.MQTT == nil {
		return parkMQTT(e.cfg.Dir)
	}
	if err := os.MkdirAll(filepath.Dir(mqttStore(e.cfg.Dir)), 0o700); err != nil {
		return fmt.Errorf("make the store folder of nats: %w", err)
	}
	return moveFolder(filepath.Join(e.cfg.Dir, parkedMQTT), mqttStore(e.cfg.Dir))
}

// reservedForMQTT is the sum of the bounds that the streams of MQTT have had
// so far: with less in all, the server would not even let them be lowered.
func reservedForMQTT(dir string) (sum int64) {
	files, _ := filepath.Glob(filepath.Join(mqttStore(dir), "streams", "*", server.JetStreamMetaFile))
	for _, file := range files {
		var info server.FileStreamInfo
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &info) == nil {
			sum += max(info.MaxBytes, 0)
		}
	}
	return sum
}

// moveFolder moves a folder if it is there, durably.
func moveFolder(from, to string) error {
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(to); err == nil {
		return fmt.Errorf("the store of MQTT is there twice: remove %s or %s, whichever is older", from, to)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("move the store of MQTT: %w", err)
	}
	return errors.Join(SyncFolder(filepath.Dir(from)), SyncFolder(filepath.Dir(to)))
}

// mqttStreams are what the server keeps of MQTT in an account, as it would
// make them by itself but for the bounds: sum to 1 of the account's store.
// Where messages wait for sessions that stay away, the oldest go, so that a
// session that never comes back does not stop all publishers.
func mqttStreams(maxStore int64) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{Name: mqttSessions, Subjects: []string{"$MQTT.sess.>"}, MaxMsgsPerSubject: 1, MaxBytes: maxStore / 16},
		{Name: mqttMessages, Subjects: []string{"$MQTT.msgs.>"}, Retention: jetstream.InterestPolicy,
			MaxBytes: maxStore / 8 * 5, MaxAge: mqttQueueAge},
		{Name: "$MQTT_qos2in", Subjects: []string{"$MQTT.qos2.in.>"}, MaxMsgsPerSubject: 1,
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxBytes: maxStore / 8},
		{Name: mqttReleases, Subjects: []string{"$MQTT.out.>"}, Retention: jetstream.InterestPolicy, MaxBytes: maxStore / 16},
		{Name: "$MQTT_rmsgs", Subjects: []string{"$MQTT.rmsgs.>"}, MaxMsgsPerSubject: 1,
			Discard: jetstream.DiscardNew, MaxBytes: maxStore / 8},
	}
}

// inMQTT calls f with a connection in the account of MQTT.
func (e *embedded) inMQTT(f func(conn *nats.Conn, js jetstream.JetStream) error) error {
	conn, err := nats.Connect("", nats.InProcessServer(e), nats.UserInfo(mqttAccount, ""), nats.NoReconnect(), nats.Timeout(loginTimeout))
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(ended) })
	defer func() {
		conn.Close()
		<-ended
	}()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	return f(conn, js)
}

// prepareMQTT makes the streams of MQTT, or gives them today's bounds.
func (e *embedded) prepareMQTT(ctx context.Context) error {
	err := e.inMQTT(func(_ *nats.Conn, js jetstream.JetStream) error {
		for _, stream := range mqttStreams(e.cfg.MQTT.MaxStore) {
			stream.Replicas = 1
			if _, err := js.CreateOrUpdateStream(ctx, stream); err != nil {
				return fmt.Errorf("stream %s: %w", stream.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("prepare the store of MQTT: %w", err)
	}
	return nil
}
