package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/connection"
	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

type sendFlags struct {
	args       []string
	json       string
	ttl        string
	timeout    string
	replay     string
	key        string
	wait       bool
	selector   string
	rate       float64
	stopAfter  string
	maxDevices uint32
}

func (a *app) commandSend() *cobra.Command {
	var s sendFlags
	cmd := &cobra.Command{
		Use:   "send DEVICE NAME | send --selector SELECTOR NAME",
		Short: "Send a command to a device, or to all that match a selector",
		Long: `Send a command to a device, or with --selector to all whose labels match.

` + argsText + `

The hub keeps the command for a device that is away until its time to live is
over. --replay says when it may be sent again after a lost connection: never
(once), until the device has taken it (until-delivered), or until a newer
command of that name takes its place (latest-wins). To gear behind the MQTT
bridge no command is published twice, whatever that says: it says only whether
one that has not been published when the gear goes offline, as one that waits
for an earlier one to end, is published when the gear is back (not with once).

--key makes sending safe to repeat: the same key with the same command is the
same command. Without one hubctl makes a key, and names it when the answer of
the hub is lost.

A command that is refused says why, and 'hubctl command why KEY' says it again.

With --wait hubctl follows the command to its end; the exit code is its
outcome: 0 SUCCEEDED, 10 FAILED, 11 REJECTED, 12 TIMED_OUT, 13 EXPIRED,
14 CANCELED; of a group 0 when all succeeded, and else 6. Ctrl-C ends the
waiting, not the command. A hub that cannot be reached, or whose store does not
answer, is 5: hubctl then says whether the command was accepted, or that this is
not known. Once it is accepted hubctl waits on until the hub answers again.

--stop-after-failures issues no more of a group once that share of its ended
commands is FAILED, REJECTED, TIMED_OUT or EXPIRED. The share is counted of at
least ten (or of all, if fewer): with 10% or less the first failure stops it,
with 50% the fifth. It is above 0%: to stop for no failure leave the flag out.
Commands that were issued by then go on. It needs time to see
failures: without --rate it issues 10 a second. A device that is disabled, or
has 50 commands without an end, gets none, and is named.`,
		Example: `  hubctl command send pump-1 set_speed --arg rpm=1200 --wait
  hubctl command send door-7 open --replay once --ttl 10s --wait
  hubctl command send display-1 show --json @page.json --key page-42
  hubctl command send gate-2 trust --arg ca=@ca.pem --arg 'note=@@site'
  hubctl command send --selector site=north reboot --rate 5 --stop-after-failures 10% --max-devices 500 --wait`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeDeviceCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.selector != "" && len(args) != 1 {
				return usagef("with --selector there is only the command's name")
			}
			if s.selector == "" && len(args) != 2 {
				return usagef("a device and the command's name are needed, or --selector and the name")
			}
			spec, err := a.commandSpec(cmd, &s, args[len(args)-1])
			if err != nil {
				return err
			}
			if s.key == "" {
				s.key = newKey()
			} else if !commandKey.MatchString(s.key) {
				return usagef("--key: 1 to 64 letters, digits, '_', '.', ':' and '-'")
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			if s.selector != "" {
				return a.sendGroup(cmd, api, &s, spec)
			}
			return a.sendOne(cmd, api, &s, args[0], spec)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&s.args, "arg", "a", nil, "argument key=value, key:=json or key=@FILE; may be repeated")
	f.StringVar(&s.json, "json", "", "all arguments as a JSON object, or @FILE, or @- for stdin")
	f.StringVar(&s.ttl, "ttl", "", "how long the hub tries to deliver it, to 30d; unset: 1h")
	f.StringVar(&s.timeout, "timeout", "", "how long the device may take to answer, to 24h; unset: 30s")
	f.StringVar(&s.replay, "replay", "until-delivered", "once, until-delivered or latest-wins")
	f.StringVar(&s.key, "key", "", "idempotency key, becomes the command's id (of a token that is bound to a selector: its beginning)")
	f.BoolVarP(&s.wait, "wait", "w", false, "follow it to its end")
	f.StringVarP(&s.selector, "selector", "l", "", "send to each device whose labels match")
	f.Float64Var(&s.rate, "rate", 0, "of a group: at most so many devices a second; 0: no limit, or 10 with --stop-after-failures")
	f.StringVar(&s.stopAfter, "stop-after-failures", "", "of a group: stop when this share of the ended ones, counted of at least ten, failed, as 10%")
	f.Uint32Var(&s.maxDevices, "max-devices", 0, "of a group: refuse when more devices match; 0: no limit")
	a.complete(cmd, "replay", fixed("once", "until-delivered", "latest-wins"))
	return cmd
}

func (a *app) commandSpec(cmd *cobra.Command, s *sendFlags, name string) (*operatorv1.CommandSpec, error) {
	if s.selector == "" {
		for _, flag := range []string{"rate", "stop-after-failures", "max-devices"} {
			if cmd.Flags().Changed(flag) {
				return nil, usagef("--%s is for groups: it needs --selector", flag)
			}
		}
	}
	spec := &operatorv1.CommandSpec{Name: name}
	var err error
	if spec.Replay, err = parseReplay(s.replay); err != nil {
		return nil, err
	}
	if spec.Ttl, err = optionalSpan(s.ttl); err != nil {
		return nil, err
	}
	if spec.Timeout, err = optionalSpan(s.timeout); err != nil {
		return nil, err
	}
	if s.json != "" && len(s.args) > 0 {
		return nil, usagef("--json excludes --arg")
	}
	payload, err := a.argsObject(s.args)
	if err != nil {
		return nil, err
	}
	if s.json != "" {
		raw, err := a.readInput(s.json, maxJSONInput)
		if errors.Is(err, errLongInput) {
			return nil, payloadTooLong("more than " + number(int(maxJSONInput)))
		}
		if err != nil {
			return nil, usageError{err}
		}
		if payload, err = jsonObject(raw); err != nil {
			return nil, err
		}
	}
	if payload != "" {
		spec.Payload = &operatorv1.CommandSpec_Json{Json: payload}
	}
	return spec, nil
}

// payloadTooLong says it as the API does.
//
// What it can read it leaves to the hub, which keeps a record of the refusal.
func payloadTooLong(size string) error {
	return usagef("the arguments are %s bytes, over the limit of %d: a device that needs more has to fetch it from where they say", size, maxPayload)
}

func parseReplay(s string) (operatorv1.ReplayClass, error) {
	switch s {
	case "once":
		return operatorv1.ReplayClass_REPLAY_CLASS_ONCE, nil
	case "until-delivered":
		return operatorv1.ReplayClass_REPLAY_CLASS_UNTIL_DELIVERED, nil
	case "latest-wins":
		return operatorv1.ReplayClass_REPLAY_CLASS_LATEST_WINS, nil
	}
	return 0, usagef("--replay %q: it is once, until-delivered or latest-wins", s)
}

// newKey is a key that no other command has.
func newKey() string {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}

// quickEnd is how long the answer to sending may wait for the end, before the
// command's progress is shown.
const quickEnd = 200 * time.Millisecond

func (a *app) sendOne(cmd *cobra.Command, api *connection.Clients, s *sendFlags, device string, spec *operatorv1.CommandSpec) error {
	ctx := cmd.Context()
	req := &operatorv1.SendCommandRequest{DeviceId: device, Spec: spec, Key: s.key}
	if s.wait {
		req.Wait = durationpb.New(quickEnd)
	}
	res, err := call(ctx, a, api.Commands.SendCommand, req)
	if err != nil {
		return a.notSent(cmd, a.uncertain(err, s.key, "command why"), s.key)
	}
	if res.Command == nil {
		return errHollow
	}
	if res.Existed {
		a.notef("The key %s was known: this is that command, nothing new was sent.", s.key)
	}
	if !s.wait {
		return a.printSent(res.Command)
	}
	c, err := a.await(ctx, api, res.Command)
	if err != nil {
		return err
	}
	if err := printOne(a, a.commandView(), c); err != nil {
		return err
	}
	if code := outcomeExit[c.State]; code != exitOK {
		return exitStatus{code: code}
	}
	return nil
}

func (a *app) printSent(c command) error {
	if a.out != output.Table {
		return printOne(a, a.commandView(), c)
	}
	_, err := fmt.Fprintf(a.stdout, "command %s to %s is %s\n", cleanName(c.Id), cleanName(c.DeviceId), stateName(c.State))
	return err
}

// uncertain adds to an error after which nobody knows whether the hub took
// the command: how to find out, and how to repeat it without doing it twice.
func (a *app) uncertain(err error, key, show string) error {
	code := connect.CodeOf(err)
	if lostAnswer(err) {
		code = connect.CodeUnavailable
	}
	switch code {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeInternal, connect.CodeUnknown, connect.CodeAborted:
		if !neverSent(err) {
			a.notef("Whether the hub has accepted it is not known: 'hubctl %s %s' tells, and sending it again with --key %s does it only once.", show, key, key)
		}
	}
	return err
}

// notSent adds to an error by which the hub has refused a command that nothing
// was sent, and, where the user has given the key, what tells that again.
func (a *app) notSent(cmd *cobra.Command, err error, key string) error {
	switch connect.CodeOf(err) { // of a key that is taken the hub says more
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeFailedPrecondition, connect.CodeResourceExhausted:
		again := ""
		if cmd.Flags().Changed("key") {
			again = fmt.Sprintf(" 'hubctl command why %s' tells that again; when it is mended, the same key may be used.", key)
		}
		a.notef("The hub has refused the command, and nothing was sent.%s", again)
	}
	return err
}

// await follows a command to its end, through lost connections.
func (a *app) await(ctx context.Context, api *connection.Clients, c command) (command, error) {
	line := newProgress(a.stderr, "", 0)
	defer line.finish()
	started := time.Now()
	draw := func() {
		line.show(fmt.Sprintf("%s  %s  %s  %s", commandState(c), span(time.Since(started).Truncate(time.Second)), c.Message, c.Reason))
	}
	draw()
	if hasEnded(c.State) {
		return c, nil
	}
	err := watchFrom(ctx, a, true, &operatorv1.WatchCommandsRequest{Id: c.Id}, api.Commands.WatchCommands, func(res *operatorv1.WatchCommandsResponse) error {
		if res.GetCommand().GetId() != c.Id {
			return nil
		}
		c = res.Command
		draw()
		if hasEnded(c.State) {
			return errDone
		}
		return nil
	})
	if err != nil {
		line.finish()
		a.notef("The hub has accepted the command, and it goes on: 'hubctl command why %s' tells how far it has come, 'hubctl command cancel %s' cancels it.", c.Id, c.Id)
	}
	return c, err
}
