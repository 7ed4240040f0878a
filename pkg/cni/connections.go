package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/host"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// This file is about networks that `dnet connect` attached a container to. The runtime
// does not know of them and says DEL for its own networks only. When that is done for the
// last of these and the sandbox is gone, or has no process any more, the connections go along. Where no
// DEL comes, as after a kill, dnetd and the next dnet find that the sandbox is gone.

// Inhabitants tells whether a sandbox is still there, and in use.
type Inhabitants interface {
	NetNSAlive(netns string, cookie uint64) bool // as in Namespaces
	ReferencedNetNS() (map[uint64]bool, error)   // as in Namespaces
	ProcessesIn(netns string) ([]string, error)  // as in Sandboxes
}

// Connections ends what dnet connected containers to.
type Connections struct {
	Store     records.Store
	Sandboxes Inhabitants
	Log       io.Writer
	// Trusted tells why a plugin must not be executed; nil: dnet's user chose it just now.
	Trusted func(file string) error
	// Engine returns the engine of a plugin by its type, nil for one of another suite's. Where it is
	// nil, published ports stay where they are: the container ends.
	Engine func(plugin string) *Engine
}

// NewConnections returns the connections of the real machine.
func NewConnections(store records.Store, machine Inhabitants) *Connections {
	return &Connections{Store: store, Sandboxes: machine, Log: os.Stderr, Trusted: host.Trusted}
}

// Follow ends a container's connections when the runtime has detached the container from
// the last of its own networks: at once where CNI_NETNS was empty, for the sandbox is gone or
// about to go (nerdctl says DEL before it kills), else if no process is in the sandbox any
// more. What can't be ended stays on record, and is no error of the runtime's.
func (c *Connections) Follow(gone wire.Attachment, netns string) {
	if !c.Store.HasConnections(gone.Container) {
		return
	}
	if list, err := c.Store.OfContainer(gone.Container); err != nil || slices.ContainsFunc(list, isOwn) {
		return
	}
	lock, err := c.Store.LockConnections(gone.Container)
	if err != nil {
		fmt.Fprintf(c.Log, "connections of container %s: %v\n", gone.Container, err)
		return
	}
	defer lock.Unlock()
	ends := func(at string, cookie uint64) bool { return netns == "" || !c.inhabited(at, cookie) }
	_, err = c.end(gone.Container, path(netns), func(l *records.Connection) bool { return ends(l.NetNS, l.Cookie) })
	if k, none := c.Store.KeptPorts(gone.Container); none == nil && ends(k.NetNS, k.Cookie) {
		err = errors.Join(err, c.Store.ForgetKeptPorts(gone.Container))
	}
	if err != nil {
		fmt.Fprintf(c.Log, "connections of container %s: %v\n", gone.Container, err)
	}
}

// isOwn reports whether an attachment is the runtime's own.
func isOwn(r *records.Record) bool { return r.Creator != records.ByConnect }

// inhabited reports whether a sandbox is there and has a process in it.
func (c *Connections) inhabited(netns string, cookie uint64) bool {
	if !c.Sandboxes.NetNSAlive(netns, cookie) {
		return false
	}
	in, err := c.Sandboxes.ProcessesIn(netns)
	return err != nil || len(in) > 0
}

// Reap ends the connections whose sandbox is gone for good, and those that a dnet left
// half made which died. It leaves alone what a dnet is at work on, and goes on past errors.
// It returns those that it ended.
func (c *Connections) Reap() (ended []wire.Attachment, err error) {
	containers, err := c.Store.Connected()
	errs := []error{err}
	for _, id := range containers {
		list, err := c.reap(id)
		ended, errs = append(ended, list...), append(errs, err)
	}
	return ended, errors.Join(errs...)
}

func (c *Connections) reap(container string) (ended []wire.Attachment, err error) {
	lock, free, err := c.Store.TryLockConnections(container)
	if err != nil || !free {
		return nil, err
	}
	defer lock.Unlock()
	// What died half-way may have left its sandbox alive, in which plugins of other suites look for what to remove.
	there := func(l *records.Connection) string {
		if c.Sandboxes.NetNSAlive(l.NetNS, l.Cookie) {
			return l.NetNS
		}
		return ""
	}
	rebound := c.rebindLeft(container)
	ended, err = c.end(container, there, func(l *records.Connection) bool { return !l.Up || c.gone(l.NetNS, l.Cookie, l.Moment) })
	k, none := c.Store.KeptPorts(container)
	if newer := (*disk.UnreadableError)(nil); errors.As(none, &newer) && !newer.Newer || none == nil && c.gone(k.NetNS, k.Cookie, k.Moment) {
		err = errors.Join(err, c.Store.ForgetKeptPorts(container))
	}
	return ended, errors.Join(rebound, err, c.Store.ForgetConnections(container))
}

// rebindLeft has the other networks of a container have the host's ports again, where one that is
// half connected or disconnected was, or is, the gateway network.
func (c *Connections) rebindLeft(container string) error {
	list, err := c.Store.Connections(container)
	for _, l := range list {
		if !l.Up && c.Sandboxes.NetNSAlive(l.NetNS, l.Cookie) {
			err = errors.Join(err, c.Rebind(container, l.Of(), nil))
		}
	}
	return err
}

// gone reports whether a sandbox that was there at a time is gone for good: not at its path, and
// used by no process.
func (c *Connections) gone(netns string, cookie uint64, since records.Moment) bool {
	if since.Age() < Grace || c.Sandboxes.NetNSAlive(netns, cookie) {
		return false
	}
	used, err := c.Sandboxes.ReferencedNetNS()
	return err == nil && !used[cookie]
}

// End ends all connections of a container, whose lock of connections the caller holds. netns
// is the path of its sandbox, "" if that is gone.
func (c *Connections) End(container, netns string) error {
	_, err := c.end(container, path(netns), func(*records.Connection) bool { return true })
	return err
}

// path returns a function that finds the sandbox of each connection at a path.
func path(netns string) func(*records.Connection) string {
	return func(*records.Connection) string { return netns }
}

// end ends the connections of a container that are to be ended, the last one first, and
// returns those. netns tells where the sandbox of one is. It goes on past errors. Plugins of other suites may find what to remove by what
// is in the sandbox only, as the reference bridge's rules of ipMasq.
func (c *Connections) end(container string, netns func(*records.Connection) string, ends func(*records.Connection) bool) (ended []wire.Attachment, err error) {
	list, err := c.Store.Connections(container)
	errs := []error{err}
	for _, l := range slices.Backward(list) {
		if !ends(l) {
			continue
		}
		err := c.Disconnect(l, netns(l))
		if err == nil {
			ended = append(ended, l.Of())
		}
		errs = append(errs, err)
	}
	return ended, errors.Join(errs...)
}

// Disconnect runs a connection's plugins with DEL, the last of them first, and forgets it.
// netns is the path of the sandbox now, "" if it is gone. The caller holds the container's
// lock of connections. If it is killed, Reap goes on from there.
func (c *Connections) Disconnect(l *records.Connection, netns string) error {
	if l.Up {
		l.Up = false
		if err := c.Store.PutConnection(l); err != nil {
			return err
		}
	}
	if err := c.Delete(l, netns); err != nil {
		return err
	}
	return c.Store.RemoveConnection(l)
}

// Delete runs a connection's plugins with DEL, as libcni does: in an attachment path no
// process may be started for it, and a plugin must not link libcni, so this is the little
// of it that DEL takes.
func (c *Connections) Delete(l *records.Connection, netns string) error {
	var list struct {
		Plugins []map[string]json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(l.Conf, &list); err != nil {
		return fmt.Errorf("network %s: %w", l.Network, err)
	}
	for _, plugin := range slices.Backward(list.Plugins) {
		if err := c.delete(l, plugin, netns); err != nil {
			return fmt.Errorf("network %s: %w", l.Network, err)
		}
	}
	return nil
}

// delete runs one plugin with DEL.
func (c *Connections) delete(l *records.Connection, plugin map[string]json.RawMessage, netns string) error {
	conf, err := pluginConf(l, plugin)
	if err != nil {
		return err
	}
	var name string
	if err := json.Unmarshal(plugin["type"], &name); err != nil {
		return fmt.Errorf("type %s: must be a string", plugin["type"])
	}
	path := strings.Join(l.Path, string(filepath.ListSeparator))
	file, err := delegate{plugin: name}.find(path)
	if err == nil && c.Trusted != nil {
		err = c.Trusted(file)
	}
	if err != nil {
		return err
	}
	args := make([]string, len(l.Args))
	for i, kv := range l.Args {
		args[i] = kv[0] + "=" + kv[1]
	}
	cmd := exec.CommandContext(context.Background(), file)
	cmd.Env = append(os.Environ(), "CNI_COMMAND=DEL", "CNI_CONTAINERID="+l.Container, "CNI_NETNS="+netns,
		"CNI_IFNAME="+l.IfName, "CNI_PATH="+path, "CNI_ARGS="+strings.Join(args, ";"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(conf), c.Log
	out, err := cmd.Output()
	if err == nil {
		return nil
	}
	failed := &types.Error{}
	if json.Unmarshal(out, failed) == nil && failed.Msg != "" {
		return failed
	}
	return fmt.Errorf("%s: %w", name, err)
}

// pluginConf returns what a plugin of a list is given at DEL (CNI specification, "Deriving
// request configuration from plugin configuration").
func pluginConf(l *records.Connection, plugin map[string]json.RawMessage) ([]byte, error) {
	conf := map[string]any{}
	for key, value := range plugin {
		conf[key] = value
	}
	conf["name"], conf["cniVersion"] = l.Network, l.CNIVersion
	var capabilities map[string]bool
	_ = json.Unmarshal(plugin["capabilities"], &capabilities) // of another form: none
	values := map[string]any{}
	for name, on := range capabilities {
		if value, given := l.Values[name]; on && given {
			values[name] = value
		}
	}
	if len(values) > 0 {
		conf["runtimeConfig"] = values
	}
	if len(l.Result) > 0 {
		conf["prevResult"] = l.Result
	}
	return json.Marshal(conf)
}
