package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tetherline/tetherline/cmd/hubctl/internal/output"
	operatorv1 "github.com/tetherline/tetherline/proto/operator/v1"
)

// maxAskedShown is how many nodes are named that were asked for their births.
const maxAskedShown = 20

// maxPassword bounds a password file, in bytes.
const maxPassword = 4 << 10

func (a *app) bridgeSample() *cobra.Command {
	var (
		duration, user, passwordFile, outFile string
		filters                               []string
		noRebirth                             bool
	)
	cmd := &cobra.Command{
		Use:   "sample BROKER|URL",
		Short: "Listen to a broker, and print which devices would appear and a config for them",
		Long: `Have the hub listen to an MQTT broker for a while, recognise the kinds of gear,
and print which devices and fields would appear, and a config for the hub's
--mqtt-bridge to paste. Nothing is stored. BROKER is a name of the hub's config,
which lends its address and password, "embedded" for the hub's own broker, or an
address as the hub sees it: tcp://host:1883, ssl://host:8883.

One thing is published: a Sparkplug node that is heard without its birth is
asked for it once (NCMD, Node Control/Rebirth), because nothing else tells its
fields and devices. Which nodes were asked is said; --no-rebirth asks none.

Gear that speaks seldom is heard only in a long sample.`,
		Example: `  hubctl bridge sample tcp://192.0.2.7:1883
  hubctl bridge sample barn --for 5m --filter 'zigbee2mqtt/#'
  hubctl bridge sample ssl://broker.example:8883 --user hub --password-file barn.password --out bridge.yaml`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBroker,
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := sampleSpan(duration)
			if err != nil {
				return err
			}
			req := &operatorv1.SampleBrokerRequest{Broker: args[0], Duration: durationpb.New(limit), Filters: filters, User: user, NoRebirth: noRebirth}
			if req.Password, err = a.samplePassword(args[0], user, passwordFile); err != nil {
				return err
			}
			if err := checkNew(outFile); err != nil {
				return err
			}
			last, err := a.sample(cmd, req, limit)
			if err != nil {
				return err
			}
			if last == nil || !last.Done {
				return errors.New("the hub ended the sample before it was over")
			}
			return a.printSample(last, outFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&duration, "for", "30s", "how long to listen, 1s to 10m")
	f.StringArrayVar(&filters, "filter", nil, `topic filter, as 'zigbee2mqtt/#'; may be repeated; unset: all topics`)
	f.StringVar(&user, "user", "", "user at the broker of a URL")
	f.StringVar(&passwordFile, "password-file", "", "file that holds that user's password; - for stdin")
	f.BoolVar(&noRebirth, "no-rebirth", false, "publish nothing: ask no Sparkplug node for its birth")
	f.StringVar(&outFile, "out", "", "write the config to this new file; - for stdout, and nothing else there")
	return cmd
}

// How long a sample may last, as the hub has it.
const (
	minSample = time.Second
	maxSample = 10 * time.Minute
)

// sampleSpan is the duration of a sample.
func sampleSpan(text string) (time.Duration, error) {
	d, err := parseSpan(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--for: %w", err)
	case d < minSample || d > maxSample:
		return 0, usagef("--for %s: a sample lasts from 1s to 10m", text)
	}
	return d, nil
}

// samplePassword reads the password of a broker that a URL names. The command
// line is no place for it: others on the machine can read that.
func (a *app) samplePassword(broker, user, file string) (string, error) {
	scheme, rest, isURL := strings.Cut(broker, "://")
	switch {
	case isURL && strings.Contains(rest, "@"):
		return "", usagef("leave the user out of the address: %s://%s --user NAME --password-file FILE", scheme, rest[strings.LastIndexByte(rest, '@')+1:])
	case !isURL && (user != "" || file != ""):
		return "", usagef("--user and --password-file go with an address; the hub's config has those of broker %q", broker)
	case file == "":
		return "", nil
	case user == "":
		return "", usagef("--password-file needs --user")
	}
	raw, err := a.readInput("@"+file, maxPassword)
	return strings.TrimRight(string(raw), "\r\n"), err
}

// sample listens and shows on stderr what has come so far. It answers the last
// message, or what ended it early.
func (a *app) sample(cmd *cobra.Command, req *operatorv1.SampleBrokerRequest, limit time.Duration) (last *operatorv1.SampleBrokerResponse, err error) {
	api, err := a.connect()
	if err != nil {
		return nil, err
	}
	line := newProgress(a.stderr, "", 0)
	defer line.finish()
	began := time.Now()
	if line == nil {
		a.notef("listening to %s for %s", req.Broker, span(limit))
	}
	line.show(fmt.Sprintf("listening to %s", req.Broker))
	_, err = watchOnce(cmd.Context(), req, api.Bridge.SampleBroker, func(res *operatorv1.SampleBrokerResponse) error {
		last = res
		left := max(0, limit-time.Since(began)).Round(time.Second)
		line.show(fmt.Sprintf("%s messages, %d devices, %s left", grouped(res.Messages), len(res.Gear), span(left)))
		return nil
	})
	return last, err
}

// noteAsked says which nodes the hub has asked for their births.
func (a *app) noteAsked(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	names := make([]string, 0, maxAskedShown+1)
	for _, n := range nodes[:min(len(nodes), maxAskedShown)] {
		names = append(names, cleanName(n))
	}
	if more := len(nodes) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %s more", grouped(uint64(more))))
	}
	a.notef("The hub has asked Sparkplug nodes for their births, which it had not heard (--no-rebirth asks none): %s", strings.Join(names, ", "))
}

// printSample prints what was found, and the config unless it goes to a file.
func (a *app) printSample(s *operatorv1.SampleBrokerResponse, outFile string) error {
	a.noteAsked(s.Asked)
	switch {
	case outFile == "":
	case s.ConfigYaml == "":
		a.notef("No gear was recognised: there is no config to write.")
	case outFile == "-":
		_, err := fmt.Fprint(a.stdout, s.ConfigYaml)
		return err
	default:
		if err := writeNew(outFile, s.ConfigYaml); err != nil {
			return err
		}
	}
	switch a.out {
	case output.JSON:
		return output.WriteObject(a.stdout, s)
	case output.CSV:
		return printList(a, sampledView(), each(sampledFields(s.Gear)))
	}
	if err := a.printSampled(s); err != nil {
		return err
	}
	switch {
	case s.ConfigYaml == "":
		return nil
	case outFile != "":
		a.notef("The config is in %s: start the hub with --mqtt-bridge %s", outFile, outFile)
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s", printableLines(s.ConfigYaml))
	return err
}

// checkNew fails early where a config could not be written later.
func checkNew(path string) error {
	if path == "" || path == "-" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return usagef("%s exists: choose another name", path)
	}
	folder, err := os.Stat(filepath.Dir(path))
	if err == nil && !folder.IsDir() {
		err = fmt.Errorf("%s is no folder", filepath.Dir(path))
	}
	return err
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (a *app) printSampled(s *operatorv1.SampleBrokerResponse) error {
	if len(s.Gear) == 0 {
		a.notef("%s messages came; no gear was recognised.", grouped(s.Messages))
	} else {
		if _, err := fmt.Fprintf(a.stdout, "%s messages came; these devices would appear:\n", grouped(s.Messages)); err != nil {
			return err
		}
		if err := printTable(a, a.sampledGearView(), s.Gear); err != nil {
			return err
		}
		if err := a.printFields(s.Gear); err != nil {
			return err
		}
	}
	if len(s.Unrecognised) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.stdout, "\nNot recognised:"); err != nil {
		return err
	}
	return printTable(a, unrecognisedView(), s.Unrecognised)
}
