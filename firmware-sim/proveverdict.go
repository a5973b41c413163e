package firmwaresim

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// promise numbers what a proof judges: the ten promises, and before them the
// run itself.
type promise int

const (
	theRun promise = iota
	promiseDurable
	promiseStored
	promiseOnce
	promiseRefuses
	promiseCommands
	promiseDeadPeers
	promiseProofs
	promiseOwnName
	promiseMemory
	promiseRevocation
	promises
)

// promiseNames are the promises, and the tests that judge what a run from
// outside cannot.
var promiseNames = [promises]struct{ says, tests string }{
	theRun:            {"the hub comes back by itself from all of it", ""},
	promiseDurable:    {"an acknowledged reading is durable", "loss of power: hub, TestPowerLoss…"},
	promiseStored:     {"it ends in the store, or in quarantine with a reason", ""},
	promiseOnce:       {"redelivery makes no duplicate", ""},
	promiseRefuses:    {"a full buffer refuses, it never drops", "a stream that is full while the hub counts on room: telemetry/jsbuffer, TestRefusedByTheServer"},
	promiseCommands:   {"a command runs at most once, and its end is known", "a device that is killed, or loses power: hub, TestChaos and TestPowerLossOfADevice…"},
	promiseDeadPeers:  {"a dead peer is found, and leaves nothing behind", ""},
	promiseProofs:     {"only mutually proven peers exchange data", "forged hubs and frames: hub, TestMiddleman…"},
	promiseOwnName:    {"a device speaks only for itself", ""},
	promiseMemory:     {"memory is bounded", "hostile peers: hub, TestHostile…; slow readers: hub/session; what an idle device takes: hub, TestIdleDevicesStayCheap"},
	promiseRevocation: {"revocation closes a live socket within a second", "by deletion and rotation: hub, TestRevocation… and TestRotation…"},
}

// Verdict is what a proof has found.
type Verdict struct {
	// Outcome is one of OutcomeHeld, OutcomeBroken, OutcomeIncomplete and
	// OutcomeInterrupted.
	Outcome string  `json:"outcome"`
	Held    bool    `json:"held"` // each of the ten promises was tried, and has held
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	Devices int     `json:"devices"`
	Store   string  `json:"store"`
	Hub     string  `json:"hub"` // the program
	// Early is why the run ended before its time; "": it did not.
	Early string `json:"ended_early,omitempty"`
	// Kept is the folder with everything, where a promise was broken.
	Kept string `json:"kept,omitempty"`
	// KeptDisk is the hub's disk in Kept, an image of an ext4 with its data;
	// "": the data is in Kept as it is.
	KeptDisk string `json:"kept_disk,omitempty"`

	Faults  map[string]int    `json:"faults"`
	LeftOut map[string]string `json:"faults_left_out,omitempty"` // that never happened, with the reason
	// MetNothing are those of LeftOut that were tried, and came and went
	// without meeting anything.
	MetNothing []string `json:"faults_met_nothing,omitempty"`
	// Untried are the numbers of the promises that were not tried.
	Untried []int `json:"promises_not_tried,omitempty"`

	Rows     RowsProved     `json:"rows"`
	Commands CommandsProved `json:"commands"`
	Trends   []trend        `json:"hub_process"`
	// Watched is the hub's longest life after its warm-up, which the trends
	// are of; 0: none was long enough.
	WatchedSeconds float64 `json:"hub_process_seconds"`
	// Retained is what the hub's heap has kept of each frame; nil: it was not
	// measured, in a run under 30 s or on a system without /proc.
	Retained *retention `json:"retained,omitempty"`
	// Leaks is what the hub has kept of each session; nil as Retained.
	Leaks *leaks `json:"leaks,omitempty"`

	Promises []PromiseProved `json:"promises"`
}

// PromiseProved is the verdict on one promise.
type PromiseProved struct {
	Number   int      `json:"promise"` // 0: the run itself
	Says     string   `json:"says"`
	Verdict  string   `json:"verdict"` // "held", "BROKEN", "not tried"
	Evidence string   `json:"evidence"`
	Findings []string `json:"findings,omitempty"` // the first ones
	More     int      `json:"more_findings,omitempty"`
	Untried  string   `json:"why_not_tried,omitempty"` // and what does try it
	// Elsewhere are the tests of what a run from outside cannot judge.
	Elsewhere string `json:"elsewhere,omitempty"`
}

const maxFindings = 8

// The outcomes of a proof. All but OutcomeHeld say that something is left to
// be proven, even where nothing was found.
const (
	OutcomeHeld        = "held"        // each of the ten promises was tried, and has held
	OutcomeBroken      = "BROKEN"      // at least one was found broken
	OutcomeIncomplete  = "incomplete"  // none was found broken, and not each was tried
	OutcomeInterrupted = "interrupted" // none was found broken, and nothing was compared
)

// The verdicts on a promise.
const (
	held     = "held"
	broken   = "BROKEN"
	notTried = "not tried"
)

func (p *PromiseProved) broken() bool { return len(p.Findings) > 0 }

// RowsProved counts rows, by what the devices know and by what the hub says.
type RowsProved struct {
	Published    uint64 `json:"published"`
	Acknowledged uint64 `json:"acknowledged"`
	Rejected     uint64 `json:"rejected"` // their time was out of range
	Dropped      uint64 `json:"dropped"`  // by devices with a small spool
	Unaccounted  uint64 `json:"unaccounted"`

	Books Books `json:"books"` // where each of them is; all zero where the run ended early

	Stored      uint64 `json:"stored"`
	Quarantined uint64 `json:"quarantined"`
	Missing     uint64 `json:"missing"` // acknowledged, and neither stored nor in quarantine
	Twice       uint64 `json:"twice"`
	Changed     uint64 `json:"changed"` // another time or value than the device sent
	Strange     uint64 `json:"strange"` // never published, or by another device

	FramesResent uint64        `json:"frames_resent"`
	Throttles    uint64        `json:"throttles"`
	Sessions     uint64        `json:"sessions"`
	AckP99       time.Duration `json:"ack_p99_ns"`
}

// CommandsProved counts commands.
type CommandsProved struct {
	Sent     int            `json:"sent"`
	Accepted int            `json:"accepted"`
	Repeated int            `json:"requests_repeated"` // that the hub had accepted before
	Ran      int            `json:"ran"`               // on their device
	Twice    int            `json:"ran_twice"`
	Wrong    int            `json:"wrong"` // another end than the device's, several ends, or none
	Ends     map[string]int `json:"ends"`
}

// WriteTo writes the verdict for people.
func (v Verdict) WriteTo(w io.Writer) (int64, error) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("seed", "%d", v.Seed)
	line("run", "%.0f s, %d devices, hub and %s as processes", v.Seconds, v.Devices, v.Store)
	if v.Early != "" {
		line("ended early", "%s", v.Early)
	}
	line("faults", "%s", counts(v.Faults, Faults()))
	for i, why := range v.leftOut() {
		line([]string{"NOT TRIED", ""}[min(i, 1)], "%s", why)
	}
	r, c := v.Rows, v.Commands
	if v.Early != "" {
		line("rows", "%d generated, %d acknowledged, %d rejected, %d dropped by devices, %d in their spools: NOT COMPARED with what is stored", r.Published, r.Acknowledged, r.Rejected, r.Dropped, r.Books.InSpools)
	} else {
		b := r.Books
		line("rows", "%d generated = %d stored + %d in quarantine + %d rejected + %d dropped by devices + %d in their spools + %d LOST",
			b.Generated, b.Stored, b.Quarantined, b.Rejected, b.Dropped, b.InSpools, b.Lost)
		line("", "%d acknowledged: %d missing, %d twice, %d changed, %d strange; %d stored that their device dropped unheard",
			r.Acknowledged, r.Missing, r.Twice, r.Changed, r.Strange, b.Nevertheless)
	}
	line("", "%d sessions, %d frames sent again, %d throttles, acknowledged p99 %v", r.Sessions, r.FramesResent, r.Throttles, r.AckP99.Round(time.Millisecond/10))
	line("commands", "%d sent, %d accepted, %d requests repeated; %d ran, %d twice; %d with a wrong end", c.Sent, c.Accepted, c.Repeated, c.Ran, c.Twice, c.Wrong)
	line("", "%s", counts(c.Ends, nil))
	for i, t := range v.Trends {
		name := ""
		if i == 0 {
			name = "hub's process"
		}
		if v.WatchedSeconds == 0 {
			line(name, "%s: at most %.0f", t.Name, t.Peak)
			continue
		}
		line(name, "%s: %.1f, later %.1f (%+.1f an hour, over %.0f s, in which less than %.0f an hour does not show); at most %.0f", t.Name, t.Early, t.Late, t.Slope, v.WatchedSeconds, t.Unseen, t.Peak)
	}
	if x := v.Retained; x != nil {
		line("", "live heap, after a collection: %.0f bytes kept of each of %d frames, where less than %.0f does not show", max(x.PerFrame, 0), x.Frames, x.Limit)
	}
	if err := table.Flush(); err != nil {
		return 0, err
	}
	return 0, v.writePromises(w)
}

func (v Verdict) writePromises(w io.Writer) error {
	var b strings.Builder
	b.WriteByte('\n')
	for _, p := range v.Promises {
		number := "  "
		if p.Number > 0 {
			number = fmt.Sprintf("%2d", p.Number)
		}
		fmt.Fprintf(&b, "%-9s  %s  %s\n               %s\n", p.Verdict, number, p.Says, p.Evidence)
		if p.Untried != "" {
			fmt.Fprintf(&b, "             ? %s\n", p.Untried)
		}
		for _, f := range p.Findings {
			fmt.Fprintf(&b, "             ! %s\n", strings.ReplaceAll(strings.TrimSpace(f), "\n", "\n               "))
		}
		if p.More > 0 {
			fmt.Fprintf(&b, "             ! and %d more\n", p.More)
		}
		if p.Elsewhere != "" {
			fmt.Fprintf(&b, "               (not from outside: %s)\n", p.Elsewhere)
		}
	}
	b.WriteByte('\n')
	v.writeOutcome(&b)
	if v.Kept != "" {
		fmt.Fprintf(&b, "logs, schedule and data: %s\n", v.Kept)
	}
	if v.KeptDisk != "" {
		fmt.Fprintf(&b, "the hub's data is on the disk it had there; as root: mount -o loop,ro %s /mnt\n", v.KeptDisk)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeOutcome says in the end what the verdict is worth.
func (v Verdict) writeOutcome(b *strings.Builder) {
	untried := make([]string, len(v.Untried))
	for i, p := range v.Untried {
		untried[i] = fmt.Sprint(p)
	}
	switch v.Outcome {
	case OutcomeHeld:
		but := ""
		if len(v.MetNothing) > 0 {
			but = ", but " + strings.Join(v.MetNothing, ", ") + " met nothing"
		}
		fmt.Fprintf(b, "every promise was tried, and held%s (seed %d)\n", but, v.Seed)
		if len(v.LeftOut) > len(v.MetNothing) {
			fmt.Fprintf(b, "NOT TRIED all the same: %s\n", strings.Join(v.leftOut(), "; "))
		}
	case OutcomeIncomplete:
		fmt.Fprintf(b, "NOT PROVEN: %d of the ten promises were not tried: %s, for the reasons above; those that were tried held (seed %d)\n", len(untried), strings.Join(untried, ", "), v.Seed)
	case OutcomeInterrupted:
		fmt.Fprintf(b, "INTERRUPTED, NOTHING IS PROVEN: until then nothing was found broken, and nothing was compared (seed %d)\n", v.Seed)
	default:
		fmt.Fprintf(b, "A PROMISE IS BROKEN (seed %d)\n", v.Seed)
	}
}
