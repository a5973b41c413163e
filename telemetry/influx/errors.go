package influx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tetherline/tetherline/telemetry"
)

// maxWords bounds what is kept of the server's words, in bytes. InfluxDB
// quotes the whole line at fault, and a line holds up to 64 KiB.
const maxWords = 128 << 10

// maxRetryAfter bounds how long the server's wish is honoured.
const maxRetryAfter = 10 * time.Minute

// answerError reads an answer that is not a success. It closes the body.
func answerError(resp *http.Response) *telemetry.SinkError {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxWords))
	// What may be left is little: reading it keeps the connection.
	_, _ = io.CopyN(io.Discard, resp.Body, maxWords)
	_ = resp.Body.Close()
	words := wordsOf(resp, body)
	if words == "" && err != nil {
		words = "its words were cut off: " + err.Error()
	}
	se := &telemetry.SinkError{
		Class:      classOf(resp.StatusCode, words),
		Status:     resp.StatusCode,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
	text := "InfluxDB: " + resp.Status
	if words != "" {
		text += ": " + words
	}
	se.Err = errors.New(text)
	if advice := adviceFor(se, words); advice != "" {
		se.Err = fmt.Errorf("%w (%s)", se.Err, advice)
	}
	return se
}

// classOf is the table of what answers ask for.
func classOf(status int, words string) telemetry.Class {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return telemetry.BadRows
	case http.StatusRequestEntityTooLarge:
		return telemetry.TooLarge
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return telemetry.Retry
	case http.StatusInternalServerError:
		// 1.8 has no better status for a bucket whose policy is missing.
		if strings.Contains(words, "retention policy not found") {
			return telemetry.Misconfigured
		}
		return telemetry.Retry
	}
	if status >= 500 {
		return telemetry.Retry
	}
	// 401, 403, 404; redirects; and refusals of something in between: no row
	// is at fault, and waiting alone mends nothing.
	return telemetry.Misconfigured
}

func adviceFor(e *telemetry.SinkError, words string) string {
	if e.Class != telemetry.Misconfigured {
		return ""
	}
	switch {
	case strings.Contains(words, "retention policy not found"), strings.Contains(words, "database not found"), strings.Contains(words, "bucket"):
		return "create the database or bucket, or correct its name in the hub's configuration"
	case e.Status == http.StatusUnauthorized:
		return "the token is wrong or missing; InfluxDB 1.8 takes \"user:password\""
	case e.Status == http.StatusForbidden:
		return "the token may not write to this bucket"
	case e.Status == http.StatusNotFound:
		return "check the URL, the organization and the bucket"
	case e.Status >= 300 && e.Status <= 399:
		return "the URL points elsewhere: give the final one"
	}
	return "something between the hub and InfluxDB refuses the request"
}

// wordsOf is what the server says went wrong: 1.8 answers {"error":…}, 2.x
// {"code":…,"message":…}, proxies HTML or text.
func wordsOf(resp *http.Response, body []byte) string {
	if mediaType(resp.Header) == "application/json" {
		var answer struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}
		if json.Unmarshal(body, &answer) == nil {
			if answer.Message != "" {
				return answer.Message
			}
			if answer.Error != "" {
				return answer.Error
			}
		}
	}
	text := strings.TrimSpace(string(body))
	if text == "" {
		text = resp.Header.Get("X-Influxdb-Error")
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	return text
}

// retryAfter reads the header: seconds, or an HTTP date (RFC 9110, 10.2.3).
func retryAfter(h string, now time.Time) time.Duration {
	h = strings.TrimSpace(h)
	if h == "" {
		return 0
	}
	var wish time.Duration
	if seconds, err := strconv.ParseUint(h, 10, 32); err == nil {
		wish = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(h); err == nil {
		wish = at.Sub(now)
	}
	return min(max(wish, 0), maxRetryAfter)
}
