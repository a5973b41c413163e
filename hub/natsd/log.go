package natsd

import (
	"fmt"
	"log/slog"
)

// serverLog hands the server's own log to slog. Every warning or error also
// makes the Node look at the server's health.
type serverLog struct {
	log     *slog.Logger
	trouble func()
	fatal   chan<- string // the reason why the server did not start; 1
}

const serverMessage = "nats server"

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug(serverMessage, "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn(serverMessage, "text", fmt.Sprintf(format, v...))
	l.trouble()
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error(serverMessage, "text", fmt.Sprintf(format, v...))
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
