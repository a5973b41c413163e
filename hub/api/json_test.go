package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// What JSON has that the API does not know is refused by name, and nothing is
// done: left out, it would be a command on other terms than asked for.
func TestJSONWithASlipIsRefused(t *testing.T) {
	h := newHub(t)
	h.device("a-0", "a")
	post := func(text string) (int, string) {
		r, err := http.NewRequestWithContext(testContext(t), http.MethodPost,
			h.http.URL+"/tetherline.operator.v1.CommandService/SendCommand", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+h.admin)
		answer, err := h.http.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for text, names := range map[string]string{
		`{"deviceId":"a-0","spec":{"name":"open","replay":"ONCE"}}`:       "ONCE",
		`{"deviceId":"a-0","spec":{"name":"open","payload":{"on":true}}}`: "payload",
		`{"deviceId":"a-0","spec":{"name":"open"},"ttl":"10s"}`:           "ttl",
		``: "JSON",
	} {
		if code, body := post(text); code != http.StatusBadRequest || !strings.Contains(body, "invalid_argument") || !strings.Contains(body, names) {
			t.Errorf("%s: %d %s", text, code, body)
		}
	}
	if n := h.commands.Pending(); n != 0 {
		t.Errorf("%d commands were accepted", n)
	}
	if code, body := post(`{"deviceId":"a-0","spec":{"name":"open","replay":"REPLAY_CLASS_ONCE"}}`); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}
