package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"dcni/integration/testhost"
)

// settle is how long a round waits for what dnetd does after an ADD.
const settle = 100 * time.Millisecond

// figures are what one round measures in a build's host.
type figures struct {
	Add, Del         time.Duration // without names
	AddNames         time.Duration
	DelNames         time.Duration
	AddPort, DelPort time.Duration // with names and one port
	AddFloor         time.Duration // the bare program, with the same objects
	DelFloor         time.Duration
	CPU              time.Duration // of an ADD with names: the plugins' and dnetd's

	// Of the command line.
	Run, NetNS    time.Duration // first output of dnet run, and of ip netns exec
	List, Inspect time.Duration
	Line          time.Duration // a Go program that prints a line
	Version       time.Duration // VERSION of dbridge, which Podman executes at each command
}

// A build is a directory of programs, measured in a process and a throwaway host
// of its own: two builds have a dnetd and records each.
type build struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *json.Decoder
	rounds []figures
}

// builds measures what names cost in this build and, with -before, in another
// one. The two take turns, so that what else the machine does befalls both.
func (b *run) builds() error {
	builds, err := b.inTurns("build")
	b.table.builds = compare(builds)
	return err
}

// inTurns has a helper measure this build and the one before, each in a process of its own.
func (b *run) inTurns(helper string) (builds []*build, err error) {
	bins := []string{b.bin}
	if b.before != "" {
		bins = append(bins, b.before)
	}
	for _, bin := range bins {
		one, err := startBuild(helper, bin)
		if err != nil {
			return nil, err
		}
		defer one.stop()
		builds = append(builds, one)
	}
	for i := range b.rounds + 1 {
		order := slices.Clone(builds)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, one := range order {
			if err := one.round(i > 0); err != nil { // the first is a rehearsal
				return nil, err
			}
		}
	}
	return builds, nil
}

// startBuild starts the process of a build, outside of this process's host.
func startBuild(helper, bin string) (*build, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	one := &build{cmd: exec.Command("/proc/self/exe", helper, bin, "-")}
	one.cmd.Stderr = os.Stderr
	if one.stdin, err = one.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := one.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	one.stdout = json.NewDecoder(stdout)
	started := make(chan error)
	go func() { started <- one.cmd.Start() }() // the calling goroutine's thread is in the host, a new one's is not
	if err := <-started; err != nil {
		return nil, err
	}
	var ready bool
	if err := one.stdout.Decode(&ready); err != nil {
		return nil, fmt.Errorf("%s: %w", bin, err)
	}
	return one, nil
}

func (one *build) stop() {
	_ = one.stdin.Close()
	_ = one.cmd.Wait() // it has said what went wrong
}

// round has the process measure one round.
func (one *build) round(counts bool) error {
	if _, err := io.WriteString(one.stdin, "\n"); err != nil {
		return err
	}
	var f figures
	if err := one.stdout.Decode(&f); err != nil {
		return fmt.Errorf("%s: %w", one.cmd.Args[2], err)
	}
	if counts {
		one.rounds = append(one.rounds, f)
	}
	return nil
}

// serveBuild is the process of a build: it makes a host with containers, and
// measures a round for each line of its standard input: `build DIRECTORY -`.
func serveBuild(bin, _ string) error {
	host, err := testhost.NewHost(bin)
	if err != nil {
		return err
	}
	b := &run{host: host, options: options{bin: bin}}
	if err := b.prepareBuild(); err != nil {
		return err
	}
	return errors.Join(serveRounds(b.round), killAgent())
}

// serveRounds measures a round for each line of standard input.
func serveRounds(round func() (figures, error)) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(true); err != nil {
		return err
	}
	for line := make([]byte, 1); ; {
		switch _, err := os.Stdin.Read(line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		f, err := round()
		if err != nil {
			return err
		}
		if err := out.Encode(f); err != nil {
			return err
		}
	}
}

// prepareBuild attaches the containers that are there while a round is measured.
func (b *run) prepareBuild() error {
	if err := b.sandboxes(0, 1); err != nil { // the floor's
		return err
	}
	if err := prepareFloor(); err != nil {
		return err
	}
	for i := range namedContainers + 1 {
		if err := b.host.NewNetNS(named(i)); err != nil {
			return err
		}
	}
	return errors.Join(b.attachNamed(), b.calm())
}

// round measures each figure once.
func (b *run) round() (f figures, err error) {
	plain, names := namedList(0, ""), namedList(0, b.namesKey())
	one, published := namedAttachment(namedContainers), namedAttachment(namedContainers)
	published.CapabilityArgs = map[string]any{
		"portMappings": []map[string]any{{"hostPort": 30000, "containerPort": 80, "protocol": "tcp"}},
	}
	for _, step := range []struct {
		add, del *time.Duration
		both     func() (add, del time.Duration, err error)
	}{
		{&f.Add, &f.Del, func() (_, _ time.Duration, _ error) { return plain.both(one) }},
		{&f.AddNames, &f.DelNames, func() (_, _ time.Duration, _ error) { return names.both(one) }},
		{&f.AddPort, &f.DelPort, func() (_, _ time.Duration, _ error) { return names.both(published) }},
		{&f.AddFloor, &f.DelFloor, func() (_, _ time.Duration, _ error) { return timeFloor(0, "names") }},
	} {
		if *step.add, *step.del, err = step.both(); err != nil {
			return f, err
		}
		time.Sleep(settle) // dnetd looks at what went
	}
	f.CPU, err = addCPU(names, one)
	return f, err
}

// addCPU returns the processor time of an ADD: the plugins', and what dnetd has
// used when it has looked after the new container.
func addCPU(l *list, rt *libcni.RuntimeConf) (time.Duration, error) {
	pid, err := agent()
	if err != nil {
		return 0, err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	if _, err := l.add(rt); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	after, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	if err := l.del(rt); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	return after - before, nil
}

// cpuTime returns the processor time that a process has used, and this one's
// children that have ended.
func cpuTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &used); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(used.Nano() + children.Utime.Nano() + children.Stime.Nano()), nil
}

// killAgent ends the host's dnetd.
func killAgent() error {
	pid, err := agent()
	if err != nil {
		return err
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// namesKeys are the two ways to say that a network has names: as a key of
// dbridge's configuration, and as a plugin of its own behind it.
const (
	keyNames  = `"names": {}, `
	ddnsNames = `{"type": "ddns"}`
)

// namesKey returns which of them the build has.
func (b *run) namesKey() string {
	if b.shape == "" {
		cmd := exec.Command(filepath.Join(b.bin, "dbridge"), "plan")
		cmd.Stdin = strings.NewReader(`{"cniVersion": "1.0.0", "name": "names", "type": "dbridge", ` + keyNames +
			`"ipam": {"type": "dipam", "subnet": "10.100.0.0/16"}}`)
		if b.shape = keyNames; cmd.Run() != nil { // an unknown key
			b.shape = ddnsNames
		}
	}
	return b.shape
}

// compare makes a row of each figure.
func compare(builds []*build) []buildRow {
	rows := []buildRow{
		timeRow("ADD without names: p50", builds, func(f figures) time.Duration { return f.Add }),
		timeRow("ADD with names: p50", builds, func(f figures) time.Duration { return f.AddNames }),
		ratioRow("... with to without", builds, func(f figures) (a, b time.Duration) { return f.AddNames, f.Add }),
		addedRow("... what names add: p50", builds, func(f figures) time.Duration { return f.AddNames - f.Add }),
		timeRow("DEL without names: p50", builds, func(f figures) time.Duration { return f.Del }),
		timeRow("DEL with names: p50", builds, func(f figures) time.Duration { return f.DelNames }),
		ratioRow("... with to without", builds, func(f figures) (a, b time.Duration) { return f.DelNames, f.Del }),
		timeRow("ADD, one port and names: p50", builds, func(f figures) time.Duration { return f.AddPort }),
		timeRow("... the bare program: p50", builds, func(f figures) time.Duration { return f.AddFloor }),
		ratioRow("... to the bare program", builds, func(f figures) (a, b time.Duration) { return f.AddPort, f.AddFloor }),
		timeRow("DEL, one port and names: p50", builds, func(f figures) time.Duration { return f.DelPort }),
		timeRow("... the bare program: p50", builds, func(f figures) time.Duration { return f.DelFloor }),
		timeRow("CPU of an ADD with names: p50", builds, func(f figures) time.Duration { return f.CPU }),
	}
	return rows
}

// A buildRow has a figure of this build and of the one before, and how they
// compare.
type buildRow struct{ what, now, before, ratio string }

// timeRow is the median of a time. Its ratio is the median of those of the rounds,
// this build's time to that of the one before.
func timeRow(what string, builds []*build, of func(figures) time.Duration) buildRow {
	r := buildRow{what: what, now: millis(builds[0].median(of))}
	if len(builds) > 1 {
		before := builds[1].rounds
		r.before = millis(builds[1].median(of))
		i := -1
		r.ratio = medianRatio(builds[0].rounds, func(f figures) (a, b time.Duration) { i++; return of(f), of(before[i]) })
	}
	return r
}

// addedRow is the median of what one time takes more than another. Its ratio is that
// of the medians: a difference may be next to nothing in a round.
func addedRow(what string, builds []*build, of func(figures) time.Duration) buildRow {
	r := buildRow{what: what, now: millis(builds[0].median(of))}
	if len(builds) > 1 {
		r.before = millis(builds[1].median(of))
		r.ratio = strconv.FormatFloat(float64(builds[0].median(of))/float64(builds[1].median(of)), 'f', 2, 64)
	}
	return r
}

func (one *build) median(of func(figures) time.Duration) time.Duration {
	var all samples
	for _, f := range one.rounds {
		all = append(all, of(f))
	}
	return all.percentile(50)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// ratioRow is the median of the ratios of two times of the same round.
func ratioRow(what string, builds []*build, of func(figures) (a, b time.Duration)) buildRow {
	r := buildRow{what: what, now: medianRatio(builds[0].rounds, of)}
	if len(builds) > 1 {
		r.before = medianRatio(builds[1].rounds, of)
	}
	return r
}

func medianRatio(rounds []figures, of func(figures) (a, b time.Duration)) string {
	var all []float64
	for _, f := range rounds {
		a, b := of(f)
		all = append(all, float64(a)/float64(b))
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return strconv.FormatFloat(all[len(all)/2], 'f', 2, 64)
}
