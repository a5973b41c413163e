package client

import (
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// Close codes of the device protocol that the client acts on. From closeStop
// on it stops until an operator acts; below, it comes back.
const (
	closeDraining           = 4000 // the reason carries the retry slot
	closeSuperseded         = 4001
	closeForbidden          = 4003
	closeRateLimit          = 4008
	closeStop               = 4500
	closeUnauthorized       = 4500
	closeDisabled           = 4501
	closeUnsupportedVersion = 4502
)

func closeName(code int) string {
	switch code {
	case websocket.CloseNormalClosure:
		return "normal"
	case websocket.CloseGoingAway:
		return "shutting down"
	case websocket.CloseInternalServerErr:
		return "internal"
	case closeDraining:
		return "draining"
	case closeSuperseded:
		return "superseded"
	case 4002:
		return "heartbeat missed"
	case closeForbidden:
		return "forbidden message"
	case 4004:
		return "renewed"
	case closeRateLimit:
		return "rate limit"
	case 4009:
		return "too slow to read"
	case 4010:
		return "handshake timeout"
	case closeUnauthorized:
		return "unauthorized"
	case closeDisabled:
		return "disabled"
	case closeUnsupportedVersion:
		return "unsupported version"
	}
	return "code"
}

// maxRetrySlot bounds what a hub may ask for, so that a wrong number does not
// silence a device for good.
const maxRetrySlot = time.Hour

// retrySlot is the first decimal number of a draining close's reason
// ("retry_ms=1234"), in milliseconds.
func retrySlot(reason string) (time.Duration, bool) {
	start := -1
	for i := 0; i <= len(reason); i++ {
		digit := i < len(reason) && reason[i] >= '0' && reason[i] <= '9'
		switch {
		case digit && start < 0:
			start = i
		case !digit && start >= 0:
			ms, err := strconv.ParseInt(reason[start:i], 10, 64)
			if err != nil || ms > int64(maxRetrySlot/time.Millisecond) {
				return maxRetrySlot, true
			}
			return time.Duration(ms) * time.Millisecond, true
		}
	}
	return 0, false
}
