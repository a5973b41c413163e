package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetherline/tetherline/device/client"
	devicev1 "github.com/tetherline/tetherline/proto/device/v1"
)

// Bounds of the arguments of simulated commands.
const (
	relays      = 4
	minInterval = 10 * time.Millisecond
	maxInterval = time.Hour
	maxSelftest = 10 * time.Minute
)

// commandDescriptions are what every simulated device obeys.
var commandDescriptions = []*devicev1.CommandDescription{
	describe("set-relay", "switch a relay",
		argument("on", truth, true, "", "closed or open"),
		argument("relay", whole, false, "", "1 to 4; 1 where it is left out")),
	describe("set-interval", "set the time between readings",
		argument("seconds", double, true, "s", "0.01 to 3600")),
	describe("identify", "blink, and tell what this device is"),
	describe("reboot", "restart: drop the connection and come back"),
	describe("selftest", "test the board, with progress",
		argument("seconds", double, false, "s", "how long, to 600; 3 where it is left out")),
	describe("fail", "fail with a code of google.rpc.Code",
		argument("code", whole, false, "", "1 to 16; 9 where it is left out"),
		argument("message", text, false, "", "for people")),
	describe("hang", "never end by itself"),
}

func describe(name, description string, arguments ...*devicev1.ArgumentDescription) *devicev1.CommandDescription {
	return &devicev1.CommandDescription{Name: name, Description: description, Arguments: arguments}
}

func argument(name string, kind devicev1.Kind, required bool, unit, description string) *devicev1.ArgumentDescription {
	return &devicev1.ArgumentDescription{Name: name, Kind: kind, Required: required, Unit: unit, Description: description}
}

// handlers are the device's commands, by name.
func (d *device) handlers() map[string]client.Handler {
	all := map[string]client.Handler{
		"set-relay":    {Run: d.setRelay},
		"set-interval": {Run: d.setInterval},
		"identify":     {Run: d.identify},
		"reboot":       {Run: d.reboot, CompleteOnRestart: true},
		"selftest":     {Run: d.selftest, Concurrent: true},
		"fail":         {Run: fail},
		"hang":         {Run: hang, Concurrent: true},
	}
	for name, h := range all {
		h.Run = d.heard(h.Run)
		all[name] = h
	}
	return all
}

// heard is a handler whose beginning and end somebody may hear of.
func (d *device) heard(run func(context.Context, *client.Command) (client.Result, error)) func(context.Context, *client.Command) (client.Result, error) {
	return func(ctx context.Context, cmd *client.Command) (client.Result, error) {
		if d.onCommand != nil {
			d.onCommand(d.client().DeviceID(), cmd.ID, cmd.Name)
		}
		result, err := run(ctx, cmd)
		if d.onResult != nil {
			d.onResult(d.client().DeviceID(), cmd.ID, err)
		}
		return result, err
	}
}

func (d *device) setRelay(_ context.Context, cmd *client.Command) (client.Result, error) {
	args := struct {
		On    *bool `json:"on"`
		Relay int   `json:"relay"`
	}{Relay: 1}
	if err := cmd.Decode(&args); err != nil {
		return client.Result{}, err
	}
	if args.On == nil {
		return client.Result{}, &client.ArgumentError{Name: "on", Reason: "is missing; true or false is wanted"}
	}
	if args.Relay < 1 || args.Relay > relays {
		return client.Result{}, &client.ArgumentError{Name: "relay", Reason: fmt.Sprintf("is %d; 1 to %d is wanted", args.Relay, relays)}
	}
	d.mu.Lock()
	was := d.relays[args.Relay-1]
	d.relays[args.Relay-1] = *args.On
	d.mu.Unlock()
	return client.JSONResult(map[string]any{"relay": args.Relay, "on": *args.On, "was": was})
}

func (d *device) setInterval(_ context.Context, cmd *client.Command) (client.Result, error) {
	var args struct {
		Seconds float64 `json:"seconds"`
	}
	if err := cmd.Decode(&args); err != nil {
		return client.Result{}, err
	}
	if !cmd.Has("seconds") {
		return client.Result{}, &client.ArgumentError{Name: "seconds", Reason: "is missing; 0.01 to 3600 is wanted"}
	}
	interval := time.Duration(args.Seconds * float64(time.Second))
	if !(args.Seconds >= minInterval.Seconds() && args.Seconds <= maxInterval.Seconds()) {
		return client.Result{}, &client.ArgumentError{Name: "seconds", Reason: fmt.Sprintf("is %v; 0.01 to 3600 is wanted", args.Seconds)}
	}
	d.mu.Lock()
	was := d.interval
	d.interval = interval
	d.mu.Unlock()
	select {
	case d.retimed <- struct{}{}:
	default:
	}
	return client.JSONResult(map[string]float64{"was": was.Seconds()})
}

func (d *device) identify(context.Context, *client.Command) (client.Result, error) {
	return client.JSONResult(map[string]string{"device": d.client().DeviceID(), "model": d.model.name, "firmware": d.model.firmware})
}

// reboot ends the SDK's client, as a restart would; the next one finds the id
// in the journal and does not restart again.
func (d *device) reboot(ctx context.Context, _ *client.Command) (client.Result, error) {
	select {
	case d.restart <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return client.Result{}, context.Cause(ctx)
}

func (d *device) selftest(ctx context.Context, cmd *client.Command) (client.Result, error) {
	args := struct {
		Seconds float64 `json:"seconds"`
	}{Seconds: 3}
	if cmd.JSON() != "" {
		if err := cmd.Decode(&args); err != nil {
			return client.Result{}, err
		}
	}
	if !(args.Seconds >= 0 && args.Seconds <= maxSelftest.Seconds()) {
		return client.Result{}, &client.ArgumentError{Name: "seconds", Reason: fmt.Sprintf("is %v; 0 to 600 is wanted", args.Seconds)}
	}
	parts := []string{"supply", "flash", "radio", "sensors", "relays"}
	step := time.NewTimer(0)
	defer step.Stop()
	<-step.C
	for i, part := range parts {
		cmd.Progress(100*i/len(parts), "testing "+part)
		step.Reset(time.Duration(args.Seconds / float64(len(parts)) * float64(time.Second)))
		select {
		case <-ctx.Done():
			return client.Result{}, context.Cause(ctx)
		case <-step.C:
		}
	}
	return client.JSONResult(map[string]any{"passed": len(parts)})
}

func fail(_ context.Context, cmd *client.Command) (client.Result, error) {
	args := struct {
		Code    client.Code `json:"code"`
		Message string      `json:"message"`
	}{Code: client.CodeFailed, Message: "failed as it was told to"}
	if cmd.JSON() != "" {
		if err := cmd.Decode(&args); err != nil {
			return client.Result{}, err
		}
	}
	if args.Code < 1 || args.Code > 16 {
		return client.Result{}, &client.ArgumentError{Name: "code", Reason: fmt.Sprintf("is %d; 1 to 16 is wanted", args.Code)}
	}
	return client.Result{}, client.Fail(args.Code, args.Message)
}

func hang(ctx context.Context, _ *client.Command) (client.Result, error) {
	<-ctx.Done()
	return client.Result{}, context.Cause(ctx)
}

// errRestart ends a boot of the device.
var errRestart = errors.New("restart")
