package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// A containerRun is a container from its start to its end, in the dnet that is
// the parent of its first process. If that dnet is killed the container ends, and
// the next dnet cleans up (see [app.heal]).
type containerRun struct {
	*app
	spec *container.Spec
	opts *runOptions
	args []string
	// former is the container that is started again; nil: it is a new one.
	former *records.Container

	requests []networkRequest
	donor    *donor // whose network namespace it joins; nil: none's
	c        *records.Container
	lock     *records.Lock // of the container, held till the end
	child    *sandbox.Child
	netns    *os.File // holds the network namespace for DEL; nil on the network host
	results  []*types100.Result
	links    []container.Linked // on the default bridge
	cidFile  *os.File           // for the container's ID; nil: none
	user     *container.User    // whom the command runs as; nil: root
	printed  *outputPipes       // what keeps the command's output; nil: it goes where dnet's own does
	silent   *os.File           // keeps the pipe open that is the command's standard input; nothing writes to it
	signals  chan os.Signal
}

// killed is the status of a container whose dnet was killed: the container is
// killed with it.
const killed = 128 + int(syscall.SIGKILL)

// run runs the container and returns its exit status.
func (r *containerRun) run() (int, error) {
	r.catchSignals()
	r.heal()
	r.waiting("starting container %s", cmp.Or(r.spec.Name, r.args[0]))
	err := r.takeFormer()
	if err != nil {
		return statusUsage, err
	}
	if word := r.spec.Donor(); word != "" {
		r.donor, err = r.findDonor(word, r.spec.Name)
		defer func() { r.donor.close() }()
	} else {
		r.requests, err = r.networkRequests(r.spec)
	}
	if err == nil {
		err = r.addServices(r.requests, r.opts.services)
	}
	if err == nil {
		r.user, err = r.findUser(r.spec.User)
	}
	if err != nil {
		return statusUsage, err
	}
	if err := r.makeCIDFile(); err != nil {
		return statusUsage, err
	}
	defer r.closeCIDFile()
	if err := r.begin(); err != nil {
		return statusUsage, err
	}
	status, err := r.work()
	return status, errors.Join(err, r.end(status), r.removeAfter(err))
}

// removeAfter removes what is left of a network that was removed while the container was
// attached to it, if that is why it failed.
func (r *containerRun) removeAfter(why error) error {
	if _, is := errors.AsType[*removedError](why); !is {
		return nil
	}
	m, err := r.openHost(r.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return r.removeRemade(m, why)
}

// begin starts the child and records the container. Before the record is written
// there is nothing to clean up: the child dies with this process.
func (r *containerRun) begin() error {
	err := r.identify()
	if err == nil {
		err = r.findAllLinks()
	}
	if err != nil {
		r.lock.Unlock()
		return err
	}
	if err = r.start(); err == nil {
		err = r.record()
	}
	if err != nil {
		if r.child != nil {
			err = errors.Join(err, r.child.Kill())
		}
		r.lock.Unlock()
	}
	return err
}

// identify makes the first record of the container, and takes its lock. One that is started
// again has the ID, the name and the times that it had.
func (r *containerRun) identify() (err error) {
	r.c = &records.Container{
		Name: r.spec.Name, Hostname: r.spec.Hostname, Command: r.args, Stage: records.Created, Remove: r.opts.remove,
		Labels: r.spec.Labels, User: r.spec.User, Exposed: r.spec.AllExposed(), Workdir: r.spec.Workdir, Output: r.opts.detach,
	}
	if r.former != nil {
		f := r.former
		r.c.ID, r.c.Name, r.c.Created, r.c.Started, r.c.Options, r.c.Output = f.ID, f.Name, f.Created, f.Started, f.Options, r.c.Output || f.Output
		return nil
	}
	var random [32]byte
	rand.Read(random[:])
	r.c.ID, r.c.Created = hex.EncodeToString(random[:]), time.Now().UTC()
	if r.c.Name == "" {
		r.c.Name = container.MadeName(r.args[0], r.c.ID)
	}
	if r.c.Options, err = r.opts.save(); err != nil {
		return err
	}
	r.lock, err = r.store.LockContainer(r.c.ID)
	return err
}

// findAllLinks finds the containers that this one links to, and notes what those that link to
// it are told.
func (r *containerRun) findAllLinks() error {
	for _, kv := range environment(nil, "", nil, r.spec.Env) {
		if !strings.HasPrefix(kv, "HOSTNAME=") || slices.Contains(r.spec.Env, kv) {
			r.c.Env = append(r.c.Env, kv)
		}
	}
	for i := range r.requests {
		n := &r.requests[i]
		n.exposed = r.spec.Exposed
		if len(n.Links) == 0 || n.Name != defaultNetwork {
			continue
		}
		if err := r.findDefaultLinks(n); err != nil {
			return err
		}
	}
	return nil
}

// findDefaultLinks finds the containers that this one links to on the default bridge.
func (r *containerRun) findDefaultLinks(n *networkRequest) error {
	m, err := r.openHost(r.store)
	if err != nil {
		return err
	}
	defer m.Close()
	if r.links, err = r.findLinks(m, r.c.Name, &n.Network); err == nil {
		r.c.Links, err = n.Links, r.checkVariables()
	}
	return err
}

// start makes the child. The child prepares its namespaces while this process
// goes on.
func (r *containerRun) start() error {
	stdin, err := r.commandStdin()
	if err != nil {
		return err
	}
	stdout, stderr := r.stdout, r.stderr
	if r.opts.detach {
		r.printed, err = newOutputPipes()
		if err != nil {
			return err
		}
		stdout, stderr = r.printed.in[0], r.printed.in[1]
	}
	if err := sandbox.Adopt(); err != nil {
		return err
	}
	o := sandbox.Options{
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Network: !r.spec.HostNetwork(), Terminal: r.opts.interactive && !r.opts.detach && sandbox.IsTerminal(stdin),
	}
	if r.donor != nil {
		o.Network, o.Join = false, r.donor.ns
	}
	r.child, err = sandbox.Start(o)
	r.printed.started()
	if err != nil || !o.Network {
		return err
	}
	r.netns, err = os.Open(r.child.NetNSPath())
	return err
}

// commandStdin returns the command's standard input: dnet's own with -i, else an
// empty one. In the background -i means a pipe to which nothing is written, so
// that a shell waits for ever.
func (r *containerRun) commandStdin() (*os.File, error) {
	switch {
	case !r.opts.interactive:
		return os.Open(os.DevNull)
	case !r.opts.detach:
		return r.stdin, nil
	}
	in, out, err := os.Pipe()
	r.silent = out
	return in, err
}

// record writes the container's first record, which has all that DEL needs.
func (r *containerRun) record() error {
	r.c.Process, r.c.Ports = r.child.Process, container.Ports(r.spec.Ports)
	if r.donor != nil {
		r.c.Donor, r.c.Hostname = r.donor.Container, r.donor.hostname()
	}
	if r.c.Hostname == "" {
		r.c.Hostname = container.ShortID(r.c.ID)
		if r.spec.HostNetwork() {
			r.c.Hostname, _ = os.Hostname() // uname(2) does not fail
		}
	}
	names, err := ifNames(r.requests, none)
	if err != nil {
		return err
	}
	for i, n := range r.requests {
		at, err := n.attachment(argsOf(r.c, records.ByDnet), names[i], r.pluginPath())
		if err != nil {
			return err
		}
		r.c.Networks = append(r.c.Networks, at)
	}
	if r.donor == nil {
		if r.c.Wanted, err = container.Wanted(r.spec.Networks).Encode(); err != nil {
			return err
		}
	}
	err = r.store.AddContainer(r.c, func(others []*records.Container) error { return nameTaken(r.c, others) })
	if err != nil {
		return err
	}
	if err := r.printed.keep(r.store.ContainerDir(r.c.ID)); err != nil {
		return err
	}
	if r.cidFile == nil {
		return nil
	}
	_, err = r.cidFile.WriteString(r.c.ID)
	return err
}

// makeCIDFile makes the file for the container's ID. Of two dnet one makes it.
func (r *containerRun) makeCIDFile() (err error) {
	if r.opts.cidFile == "" {
		return nil
	}
	r.cidFile, err = os.OpenFile(r.opts.cidFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as Docker's: everybody may know the ID
	if errors.Is(err, fs.ErrExist) {
		return cidFileFound(r.opts.cidFile)
	}
	return err
}

// closeCIDFile leaves the file if the container ran, and removes it if there was none.
func (r *containerRun) closeCIDFile() {
	if r.cidFile == nil {
		return
	}
	_ = r.cidFile.Close() // what could not be written was an error before
	if r.c == nil || r.c.Stage == records.Created {
		_ = os.Remove(r.opts.cidFile) // it may be gone
	}
}

// cidFileFound is Docker's error.
func cidFileFound(path string) error {
	return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
}

// nameTaken returns Docker's error if another container has a container's name.
func nameTaken(c *records.Container, others []*records.Container) error {
	for _, o := range others {
		if o.Name == c.Name && o.ID != c.ID {
			return fmt.Errorf("Conflict. The container name %q is already in use by container %q. "+ //nolint:staticcheck // Docker's sentence
				"You have to remove (or rename) that container to be able to reuse that name.", "/"+o.Name, o.ID)
		}
	}
	return nil
}

// work attaches the child to its networks, has it become the command, and waits
// until the command ends.
func (r *containerRun) work() (int, error) {
	for i := range r.c.Networks {
		r.waiting("connecting container %s to network %s", r.c.Name, r.c.Networks[i].Network)
		result, err := r.connect(i, r.child.NetNSPath())
		if err != nil && r.child.Ended() {
			return r.wait() // `dnet stop` ended the child, and that made the plugin fail
		}
		if err != nil {
			return statusUsage, err
		}
		r.asksHere(r.c.ID, result)
		r.results = append(r.results, result)
	}
	if r.donor != nil {
		r.results = r.donor.results()
	}
	files, err := r.files()
	if err != nil {
		return statusUsage, err
	}
	if sig := r.pending(); sig != 0 {
		return 128 + int(sig), nil
	}
	dir := r.spec.Workdir
	if dir == "" {
		if dir, err = os.Getwd(); err != nil {
			return statusUsage, err
		}
	}
	r.waits.clear() // the terminal is the command's now
	err = r.child.Run(sandbox.Command{
		Args: r.args, Env: environment(r.variables(), r.c.Hostname, r.user, r.spec.Env), Dir: dir, Hostname: r.c.Hostname, Files: files,
		User: credential(r.user),
	})
	if failed := (&sandbox.ExecError{}); errors.As(err, &failed) {
		return failed.Status, err
	}
	if err != nil {
		return statusUsage, err
	}
	return r.watch()
}

// variables returns dnet's own environment with what is said of links.
func (r *containerRun) variables() []string { return setVariables(r.env, r.linkVariables()) }

// linkVariables returns the variables by which the container knows those that it links to.
func (r *containerRun) linkVariables() (list []string) {
	for _, l := range r.links {
		list = append(list, l.Variables(r.c.Name)...)
	}
	return list
}

// maxVariables is how long the variables of links may be together, in bytes. The kernel takes a
// quarter of the stack's limit for arguments and environment (execve(2)), usually 2 MiB.
const maxVariables = 1 << 20

// checkVariables refuses links whose variables no program could be started with.
func (r *containerRun) checkVariables() error {
	n := 0
	for _, kv := range r.linkVariables() {
		n += len(kv) + len("\x00")
	}
	if n > maxVariables {
		return fmt.Errorf("--link: the variables for the ports that are exposed would have %d bytes, at most %d are possible: expose fewer ports", n, maxVariables)
	}
	return nil
}

// watch records that the command runs, and passes signals on until it ends.
func (r *containerRun) watch() (int, error) {
	r.c.Stage, r.c.Started = records.Running, time.Now().UTC()
	if err := r.store.PutContainer(r.c); err != nil {
		return statusUsage, err
	}
	r.followAllLinks()
	if r.opts.detach {
		if err := sandbox.Ready(r.c.ID); err != nil {
			return statusUsage, err
		}
	}
	go func() {
		for sig := range r.signals {
			_ = r.child.Signal(sig.(syscall.Signal)) // if the child has ended, so will dnet
		}
	}()
	return r.wait()
}

// wait waits for the command's end and returns its status.
func (r *containerRun) wait() (int, error) {
	ws, err := r.child.Wait()
	if err != nil {
		return statusUsage, err
	}
	return sandbox.Status(ws), nil
}

// end removes everything of the container but its record. The record of a
// container that never ran is removed as well.
func (r *containerRun) end(status int) error {
	defer r.lock.Unlock()
	err := r.child.Kill()
	r.c.ExitCode = status
	defer r.printed.close()
	r.c.Remove = r.c.Remove || r.c.NeverRan()
	netns := ""
	if r.netns != nil {
		netns = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.netns.Fd())
	}
	if left := r.finish(r.c, netns); left != nil {
		err = errors.Join(err, fmt.Errorf("clean up container %s: %w", r.c.Name, left))
	}
	return err
}

// notForwarded are the signals that are not passed on: those that can't be
// caught, and those that are about this process itself.
var notForwarded = map[syscall.Signal]bool{
	syscall.SIGKILL: true, syscall.SIGSTOP: true, syscall.SIGCHLD: true, syscall.SIGPIPE: true, syscall.SIGURG: true,
	syscall.SIGTSTP: true, syscall.SIGTTIN: true, syscall.SIGTTOU: true,
	syscall.SIGSEGV: true, syscall.SIGBUS: true, syscall.SIGFPE: true, syscall.SIGILL: true, syscall.SIGTRAP: true, syscall.SIGPROF: true,
}

// catchSignals keeps every other signal for the command. SIGHUP stays ignored if
// it is: nohup did that.
func (r *containerRun) catchSignals() {
	const last, waiting = 64, 64
	r.signals = make(chan os.Signal, waiting)
	for sig := syscall.Signal(1); sig <= last; sig++ {
		if !notForwarded[sig] && (sig != syscall.SIGHUP || !signal.Ignored(sig)) {
			signal.Notify(r.signals, sig)
		}
	}
}

// pending returns a signal that came before the command ran, and would have
// ended it; 0: none.
func (r *containerRun) pending() syscall.Signal {
	for {
		select {
		case sig := <-r.signals:
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
				return sig.(syscall.Signal)
			}
		default:
			return 0
		}
	}
}
