package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/terminal"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

func (a *app) topCommand() *cobra.Command {
	var selector, every string
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the hub and its busiest devices",
		Long: `Watch the hub and its busiest devices, drawn again every --interval. q or Ctrl-C
ends it. --once draws a single time, after one interval of counting.`,
		Example: "  hubctl top\n  hubctl top --selector site=north --interval 5s\n  hubctl top --once",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.out != output.Table {
				return usagef("top is for people; 'hubctl status' and 'hubctl device ls' write %s", a.out)
			}
			interval, err := parseSpan(every)
			if err != nil {
				return err
			}
			if interval < 100*time.Millisecond {
				return usagef("--interval must be at least 100ms")
			}
			width, _ := terminal.Size(a.stdout)
			if !once && (width == 0 || !terminal.IsInput(a.stdin)) {
				return usagef("top needs a terminal; without one, use --once")
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			t := &top{app: a, api: api, selector: selector, interval: interval, counts: map[string]*rowCount{}}
			return t.run(cmd.Context(), once)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&selector, "selector", "l", "", "only devices whose labels match")
	f.StringVar(&every, "interval", "2s", "time between two drawings")
	f.BoolVar(&once, "once", false, "draw once and end")
	return cmd
}

// run counts rows beside the drawing, and joins the counting at its end.
func (t *top) run(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancel(ctx)
	counted := make(chan error, 1)
	go func() { counted <- t.count(ctx) }()
	var err error
	if once {
		err = t.drawOnce(ctx)
	} else {
		err = t.drawUntilKey(ctx)
	}
	cancel()
	if countErr := <-counted; err == nil && countErr != nil && !errors.Is(countErr, context.Canceled) {
		err = countErr
	}
	return err
}

func (t *top) drawOnce(ctx context.Context) error {
	t.take() // the interval begins now
	if err := sleep(ctx, t.interval); err != nil {
		return err
	}
	if err := t.fetch(ctx); err != nil {
		return err
	}
	for _, line := range t.page(t.screenWidth(), 0) {
		if _, err := fmt.Fprintln(t.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// drawUntilKey takes the screen over and gives it back at the end.
func (t *top) drawUntilKey(ctx context.Context) error {
	if err := t.fetch(ctx); err != nil { // a hub that is not there is told on the plain screen
		return err
	}
	restore, err := terminal.Raw(t.stdin)
	if err != nil {
		return fmt.Errorf("take over the terminal: %w", err)
	}
	defer restore()
	const enter, leave = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
	fmt.Fprint(t.stdout, enter)
	defer fmt.Fprint(t.stdout, leave)
	quit := quitKey(t.stdin)
	for {
		width, height := terminal.Size(t.stdout)
		frame := "\x1b[H"
		for i, line := range t.page(width, height) {
			if i > 0 {
				frame += "\r\n"
			}
			frame += terminal.Truncate(line, width) + "\x1b[K"
		}
		if _, err := io.WriteString(t.stdout, frame+"\x1b[J"); err != nil {
			return err
		}
		timer := time.NewTimer(t.interval)
		select {
		case <-quit:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		t.failure = t.fetch(ctx)
		if t.failure != nil && ctx.Err() == nil && !worthRetrying(t.failure) {
			return t.failure
		}
	}
}

// quitKey is closed by q, Ctrl-C or the end of the input. A read from a
// terminal cannot be called off: its goroutine ends with the next key or with
// the program.
func quitKey(r io.Reader) <-chan struct{} {
	quit := make(chan struct{})
	go func() {
		defer close(quit)
		key := make([]byte, 1)
		for {
			if _, err := r.Read(key); err != nil {
				return
			}
			switch key[0] {
			case 'q', 'Q', 0x03, 0x04:
				return
			}
		}
	}()
	return quit
}

// count follows all rows. It is silent: top shows by itself that the hub is
// away.
func (t *top) count(ctx context.Context) error {
	silent := *t.app
	silent.stderr = io.Discard
	req := &operatorv1.WatchRowsRequest{Selector: t.selector}
	return watchFrom(ctx, &silent, true, req, t.api.Telemetry.WatchRows, func(res *operatorv1.WatchRowsResponse) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.missed += res.MissedRows
		for _, row := range res.Rows {
			c := t.counts[row.DeviceId]
			if c == nil {
				c = &rowCount{}
				t.counts[row.DeviceId] = c
			}
			c.rows++
			c.values += uint64(len(row.Values))
			c.last = row.Time
		}
		return nil
	})
}

// fetch asks the hub for what the next page shows.
func (t *top) fetch(ctx context.Context) error {
	status, err := call(ctx, t.app, t.api.Hub.GetStatus, &operatorv1.GetStatusRequest{})
	if err != nil {
		return err
	}
	online := true
	devices, err := call(ctx, t.app, t.api.Devices.ListDevices, &operatorv1.ListDevicesRequest{Selector: t.selector, Online: &online, PageSize: listPage})
	if err != nil {
		return err
	}
	t.status, t.devices = status, devices.Devices
	t.take()
	return nil
}
