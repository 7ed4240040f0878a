// Package cni is the protocol: environment and standard input become a typed
// request, a verb is carried out, a result or an error goes to standard output
// as the CNI specification has it.
//
// All plugins go one way, for every verb:
//
//	env, stdin -> Request -> Mode -> lock, record -> lease -> plan -> apply -> result
//
// A plugin's own part is its [network.Mode]: what must be there for one attachment.
// What is remembered on disk, in which order things come and go, and what is
// undone after an error is the same for all, and is here.
package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni/version"
	"dcni/pkg/firewall"
	"dcni/pkg/firewall/iptables"
	"dcni/pkg/host"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Version is that of all programs. The linker sets it (-X, see the Makefile).
var Version = "v0.0.0-dev"

// verbs are what a runtime may ask a plugin for.
type verbs interface {
	Add(r *Request) (*types100.Result, error)
	Del(r *Request) error
	Check(r *Request) error
	GC(r *Request) error
	Status(r *Request) error
}

// Main runs the plugin as the runtime asked, and does not return. Anything on
// the command line asks for something else: `plan` prints what ADD would make,
// `heal` puts back what was taken away.
func Main(p *network.Plugin) {
	if len(os.Args) > 1 {
		exit(command(p, os.Args[1:], os.Stdin, os.Stdout))
		os.Exit(0)
	}
	serve(p.Type, func(store records.Store, machine *host.Host) verbs {
		e := NewEngine(p, store, machine)
		e.Program, _ = os.Executable() // best effort: an attachment works without
		return e
	})
}

// MainAll runs the plugin that the program was called as, for one file with a link for
// each plugin, and does not return. Called by another name it prints its version: some
// runtimes execute every file of the plugins' directory. For a configuration that says
// that name it is no plugin.
func MainAll(all []*network.Plugin) {
	name := filepath.Base(os.Args[0])
	types := []string{"dipam"}
	for _, p := range all {
		if p.Type == name {
			Main(p)
		}
		types = append(types, p.Type)
	}
	if name == "dipam" {
		MainIPAM(name)
	}
	slices.Sort(types)
	attend(name, func() (verbs, error) {
		return nil, wire.Invalid("type", name, "must be one of "+strings.Join(types, ", "))
	})
}

// NewEngine returns an engine that works on the real machine.
func NewEngine(p *network.Plugin, store records.Store, machine *host.Host) *Engine {
	return &Engine{
		Plugin: p, Host: machine, Namespaces: machine, Sandboxes: machine, NetNSAddresses: machine, LAN: machine,
		Facts: machine, Owned: machine, Donors: machine,
		Locks: store, Records: store, Sharers: store, Chains: store, Index: store,
		Source: Source(store, machine, openCluster(store, machine.StartCluster)), Relay: host.RefreshRelay, Log: os.Stderr,
		Announce: machine.AnnounceTasks,
		Follow:   NewConnections(store, machine).Follow,
	}
}

// serve runs one verb on the real machine, and does not return. What it opens
// is the kernel's to close: the process ends with the verb.
func serve(name string, of func(records.Store, *host.Host) verbs) {
	attend(name, func() (verbs, error) {
		store := records.Default()
		machine, err := host.New(store)
		if err != nil {
			return nil, err
		}
		return of(store, machine), nil
	})
}

// attend carries out the call that this process is, and does not return.
func attend(name string, open func() (verbs, error)) {
	if os.Getenv("CNI_COMMAND") == "" {
		about(os.Stderr, name)
		os.Exit(0)
	}
	self := process{os.Getenv, os.Stdin, os.Stdout, os.Stderr}
	if err := self.attend(open); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// A process is what a call is made of, and where its outcome goes.
type process struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// attend carries out the call, and prints what it gives or how it failed.
func (p process) attend(open func() (verbs, error)) error {
	c, err := readCall(p.getenv, p.stdin)
	spoken := ""
	if err == nil {
		spoken, err = p.run(c, open)
	}
	if err == nil {
		return nil
	}
	f := report(err, spoken)
	if c.Command == "DEL" {
		f.notGone()
	}
	if unsaid := f.print(p.stdout); unsaid != nil {
		fmt.Fprintln(p.stderr, unsaid)
	}
	return err
}

// run carries the call out. A panic is an error as others are: a runtime that finds
// nothing on standard output takes what is on stderr for the error, and reads in a
// stack what it likes.
func (p process) run(c *Call, open func() (verbs, error)) (spoken string, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = panicError(why)
			fmt.Fprintf(p.stderr, "%v\n%s", err, debug.Stack())
		}
	}()
	return c.run(open, p.stdout)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run carries the call out, and prints what it gives. It returns the version of
// the configuration, as far as it came.
func (c *Call) run(open func() (verbs, error), stdout io.Writer) (spoken string, err error) {
	if c.Command == "VERSION" {
		_, err = io.WriteString(stdout, version.Answer())
		return "", err
	}
	r, err := ParseRequest(c)
	if err != nil {
		return "", err
	}
	if err := c.checkVersion(r.Version); err != nil {
		return "", err
	}
	v, err := open()
	if err != nil {
		return r.Version, err
	}
	switch c.Command {
	case "ADD":
		var result *types100.Result
		if result, err = v.Add(r); err == nil {
			err = c.answer(v, r, result, stdout)
		}
	case "DEL":
		err = v.Del(r)
	case "CHECK":
		err = v.Check(r)
	case "GC":
		err = v.GC(r)
	case "STATUS":
		err = v.Status(r)
	}
	return r.Version, err
}

// answer prints the result of an ADD. If it can't be written, the ADD has
// failed: nothing stays attached.
func (c *Call) answer(v verbs, r *Request, result *types100.Result, stdout io.Writer) error {
	err := printResult(stdout, result, r.Version)
	if err == nil {
		return nil
	}
	return errors.Join(&wire.Error{Code: wire.CodeIO, Msg: "write the result to standard output", Err: err}, v.Del(r))
}

// report turns an error into the protocol's: the code it carries, 5 where a
// file can't be read or written, else 999.
func report(err error, version string) *failure {
	f := &failure{CNIVersion: version, Code: uint(wire.CodeInternal), Msg: err.Error()}
	var coded *wire.Error
	var foreign *types.Error // a delegate's
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &coded):
		f.Code = uint(coded.Code)
	case errors.As(err, &foreign):
		f.Code, f.Msg, f.Details = foreign.Code, foreign.Msg, foreign.Details
	case errors.As(err, &path), errors.As(err, &link):
		f.Code = uint(wire.CodeIO)
	}
	return f
}

// command serves people: `dbridge plan < conf.json`.
func command(p *network.Plugin, args []string, stdin io.Reader, stdout io.Writer) error {
	if args[0] == host.PopCommand && len(args) == 4 && p.Kind == network.NoInterface {
		return pop(p.Type, wire.Attachment{Network: args[1], Container: args[2], IfName: args[3]})
	}
	switch args[0] {
	case "plan":
	case "heal":
		return heal(p, args[1:], stdout)
	default:
		return fmt.Errorf("%s: unknown command %q: known are plan (reads a configuration, prints what ADD would make) "+
			"and heal (puts back what the records say; behind it, networks)", p.Type, args[0])
	}
	conf, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	return PrintPlan(p, conf, stdout)
}

// pop is what a plugin starts itself for, see [host.Host.Pop].
func pop(plugin string, a wire.Attachment) error {
	machine, err := host.New(records.Default())
	if err != nil {
		return err
	}
	defer machine.Close()
	return machine.Pop(a, plugin)
}

// PrintPlan prints the plan of a first attachment, and touches nothing: addresses
// and sandbox are examples, said to be so.
func PrintPlan(p *network.Plugin, conf []byte, stdout io.Writer) error {
	conf, err := onePlugin(conf, p.Type)
	if err != nil {
		return err
	}
	c, err := network.ReadConf(conf)
	if err != nil {
		return err
	}
	mode, err := parse(p, c)
	if err != nil {
		return err
	}
	r, err := ParseRequest(&Call{Conf: conf})
	if err != nil {
		return err
	}
	d, k := mode.Describe(), kindOf(p)
	if err := k.readRuntime(r, d); err != nil {
		return err
	}
	endpoint := k.example(r, d)
	plan, err := mode.Plan(endpoint)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "# %s on network %s", endpoint.IfName, endpoint.Network)
	if p.Kind == network.MakesInterface {
		fmt.Fprintf(stdout, ", first address of each subnet, mtu %d", endpoint.MTU)
	}
	if endpoint.ParentMAC != "" {
		fmt.Fprintf(stdout, ", parent's MAC %s", endpoint.ParentMAC)
	}
	fmt.Fprintln(stdout)
	showIPTables(&plan)
	for _, line := range plan.Lines() {
		fmt.Fprintln(stdout, line)
	}
	return nil
}

// showIPTables has the rules of a network be shown as those of iptables, where they are.
func showIPTables(plan *wire.Plan) {
	is := func(o wire.Object) bool {
		n, ok := o.(*firewall.Network)
		return ok && n.ByIPTables()
	}
	if !slices.ContainsFunc(plan.Network, is) {
		return
	}
	for _, part := range []*[]wire.Object{&plan.Network, &plan.Own} {
		var objects []wire.Object
		for _, o := range *part {
			lines := iptables.Lines(o)
			for _, line := range lines {
				objects = append(objects, shown{o, line})
			}
			if len(lines) == 0 {
				objects = append(objects, o)
			}
		}
		*part = objects
	}
}

// shown is a part of an object, in another form.
type shown struct {
	wire.Object
	text string
}

func (s shown) String() string { return s.text }

// onePlugin takes a plugin's configuration out of a list: people have
// conflists at hand.
func onePlugin(conf []byte, name string) ([]byte, error) {
	var list struct {
		Name    string                       `json:"name"`
		Version string                       `json:"cniVersion"`
		Plugins []map[string]json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(conf, &list); err != nil {
		return nil, wire.Errorf(wire.CodeDecode, "configuration: %v", err)
	}
	if list.Plugins == nil {
		return conf, nil
	}
	for _, plugin := range list.Plugins {
		if string(plugin["type"]) == fmt.Sprintf("%q", name) {
			plugin["name"], _ = json.Marshal(list.Name)
			plugin["cniVersion"], _ = json.Marshal(list.Version)
			return json.Marshal(plugin)
		}
	}
	return nil, wire.Errorf(wire.CodeConfig, "plugins: none of type %q", name)
}
