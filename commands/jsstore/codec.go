package jsstore

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tetherline/tetherline/commands"
)

// encode writes JSON, which operators can read with the tools of NATS. "<",
// ">" and "&" stay as they are: a payload must not grow sixfold.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decode a command; its place and its subject are the message's.
func decode(m *storedMessage) (*commands.Command, error) {
	c := &commands.Command{}
	if err := json.Unmarshal(m.Data, c); err != nil {
		return nil, fmt.Errorf("decode the record %s: %w", m.Subject, err)
	}
	id, device, ok := parseSubject(m.Subject)
	if !ok || c.ID != id || c.Device != device || len(c.Events) == 0 {
		return nil, fmt.Errorf("decode the record %s: it is not that of its subject", m.Subject)
	}
	c.Revision = m.Sequence
	return c, nil
}

func decodeGroup(m *storedMessage) (*commands.Group, error) {
	g := &commands.Group{}
	if err := json.Unmarshal(m.Data, g); err != nil {
		return nil, fmt.Errorf("decode the record %s: %w", m.Subject, err)
	}
	g.Revision = m.Sequence
	return g, nil
}
