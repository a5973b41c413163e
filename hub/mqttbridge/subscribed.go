package mqttbridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// subscribed remembers in a file what a persistent session is subscribed to:
// the broker goes on sending what the config does not ask for any more, and
// sends some messages twice where old and new filters overlap.
type subscribed struct {
	path string
}

// subscription is what the file holds.
type subscription struct {
	URL      string   `json:"url"`
	ClientID string   `json:"client_id"`
	Filters  []string `json:"filters"`
}

// stale are the filters of before that are not among wanted; known: there was
// a session of that client id at that URL. What cannot be read is no session.
func (s subscribed) stale(url, clientID string, wanted []string) (filters []string, known bool) {
	before, known := s.read(url, clientID)
	if !known {
		return nil, false
	}
	return slices.DeleteFunc(before.Filters, func(f string) bool { return slices.Contains(wanted, f) }), true
}

// has reports whether that session is subscribed to all those filters.
func (s subscribed) has(url, clientID string, filters []string) bool {
	before, known := s.read(url, clientID)
	return known && !slices.ContainsFunc(filters, func(f string) bool { return !slices.Contains(before.Filters, f) })
}

func (s subscribed) read(url, clientID string) (before subscription, known bool) {
	text, err := os.ReadFile(s.path)
	if err != nil || json.Unmarshal(text, &before) != nil || before.URL != url || before.ClientID != clientID {
		return subscription{}, false
	}
	return before, true
}

// save what the session is subscribed to, whole or not at all.
func (s subscribed) save(now subscription) error {
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if before, err := os.ReadFile(s.path); err == nil && string(before) == string(text) {
		return nil
	}
	next := s.path + ".new"
	if err = os.WriteFile(next, text, 0o600); err == nil {
		err = os.Rename(next, s.path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write down the subscriptions: %w", err)
	}
	return nil
}
