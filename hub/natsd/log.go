package natsd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// serverLog hands the server's own log to slog. Every warning or error also
// makes the Node look at the server's health. What MQTT clients cause is
// bounded: a client that does what it may not would write a line each time.
type serverLog struct {
	log     *slog.Logger
	trouble func()
	fatal   chan<- string     // the reason why the server did not start; 1
	client  func(line string) // is told of errors about MQTT clients, and must not wait
	clients *rate.Limiter     // of lines about MQTT clients
}

const serverMessage = "nats server"

// Lines about MQTT clients.
const (
	clientLineEvery = time.Second
	clientLineBurst = 20
	clientLineMark  = " - mid:" // after the client's address
	clientLineGap   = " - "     // between what else tells of the client, and before the text
)

func newServerLog(log *slog.Logger, trouble func(), fatal chan<- string, client func(line string)) *serverLog {
	return &serverLog{log: log, trouble: trouble, fatal: fatal, client: client, clients: rate.NewLimiter(rate.Every(clientLineEvery), clientLineBurst)}
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug(serverMessage, "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) { l.report(slog.LevelWarn, format, v) }

func (l *serverLog) Errorf(format string, v ...any) { l.report(slog.LevelError, format, v) }

func (l *serverLog) report(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(text, clientLineMark) {
		if level == slog.LevelError {
			l.client(text)
		}
		if !l.clients.Allow() {
			return
		}
		level = slog.LevelWarn // the client's error, mostly
	}
	l.log.Log(context.Background(), level, serverMessage, "text", text)
	l.trouble()
}

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(serverMessage, "text", text)
	select {
	case l.fatal <- text:
	default:
	}
	l.trouble()
}

func (l *serverLog) Debugf(format string, v ...any) {}

func (l *serverLog) Tracef(format string, v ...any) {}
