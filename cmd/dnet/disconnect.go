package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// disconnectOptions are the flags of `dnet disconnect`.
type disconnectOptions struct {
	force bool
	netns string
}

func newDisconnectCommand(a *app) *cobra.Command {
	o := &disconnectOptions{}
	cmd := &cobra.Command{
		Use:                   "disconnect [OPTIONS] NETWORK CONTAINER",
		Short:                 "Disconnect a container from a network",
		Example:               "  dnet disconnect lab shop\n  dnet disconnect -f lab shop",
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			return (&connectOptions{netns: o.netns}).args(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.disconnect(o, args[0], strings.Join(args[1:], ""))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.force, "force", "f", false, "Force the container to disconnect from a network, also one that is gone")
	f.StringVar(&o.netns, "netns", "", "Path of the container's network namespace, in place of CONTAINER")
	return cmd
}

// disconnect detaches a container from a network, whatever attached it. One of dnet's that has
// ended is not attached any more when it is started.
func (a *app) disconnect(o *disconnectOptions, word, name string) error {
	a.heal()
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return a.runningOrStopped("disconnect", func() error { return a.disconnectRunning(m, o, word, name) },
		func(c *records.Container) (bool, error) { return a.disconnectStopped(c, word) })
}

// disconnectRunning detaches a running container from a network.
func (a *app) disconnectRunning(m machine, o *disconnectOptions, word, name string) error {
	t, err := a.findTarget(m, name, o.netns)
	if err != nil && o.force {
		return a.forget(word, name, err)
	}
	if err != nil {
		return err
	}
	a.waiting("disconnecting container %s from network %s", t.Title(), word)
	lock, err := a.store.LockConnections(t.Container)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if t, err = a.findTarget(m, t.Container, t.again(o.netns)); err != nil {
		return err
	}
	network, err := a.networkOf(t, word)
	if err != nil {
		return err
	}
	ifName, is := t.on(network)
	if !is && t.wants(network) { // whose connect was killed
		return a.unwantConnected(t.own, network)
	}
	if !is {
		return fmt.Errorf("container %s is not connected to network %s", t.Container, network)
	}
	at := wire.Attachment{Network: network, Container: t.Container, IfName: ifName}
	if err := a.keepPorts(t, at); err != nil {
		return err
	}
	return a.disconnectFrom(t, at, o.force)
}

// networkOf returns the name of a network that a word means. A network whose file is gone can
// be left by its name.
func (a *app) networkOf(t *target, word string) (string, error) {
	if _, is := t.on(word); is {
		return word, nil
	}
	known, err := a.networks()
	if err != nil {
		return "", err
	}
	n, err := find(known, word)
	switch {
	case err == nil && n.Driver == "host":
		return "", network.Refuse(network.InvalidParameter, "cannot disconnect container from host network - container was created in host network mode")
	case t.wants(word):
		return word, nil
	case err != nil:
		return "", err
	}
	return n.Name, nil
}

// disconnectFrom runs DEL of a network's plugins: as connect recorded it, as `dnet run` did,
// or as libcni keeps it of another runtime. The runtime's own DEL, later, finds nothing left.
//
// The files are changed first: killed later, dnet leaves an attachment that can be left again,
// and no line for an address that is another container's by then.
func (a *app) disconnectFrom(t *target, at wire.Attachment, force bool) error {
	if t.own != nil {
		if err := errors.Join(a.disconnectFiles(t.own, at, t.resultOf(at)), a.disconnectLinks(t.own, at)); err != nil {
			return err
		}
	}
	list, err := a.store.Connections(t.Container)
	i := slices.IndexFunc(list, func(l *records.Connection) bool { return l.Network == at.Network })
	switch {
	case i >= 0:
		if err = a.connectionsOf(t.machine).Disconnect(list[i], t.path); err != nil && force {
			a.warn("%v", err)
			err = a.store.RemoveConnection(list[i])
		}
	case err != nil:
	case t.own != nil:
		return a.leaveOwn(t, at)
	default:
		err = a.leaveRuntimes(t, at)
	}
	if err != nil {
		return err
	}
	return a.unwantConnected(t.own, at.Network)
}

// leaveOwn detaches a container of dnet's from a network that it was started with.
func (a *app) leaveOwn(t *target, at wire.Attachment) error {
	c := t.own
	i := slices.IndexFunc(c.Networks, func(n records.Attachment) bool { return n.Network == at.Network })
	if i < 0 {
		return fmt.Errorf("container %s is not connected to network %s", t.Container, at.Network)
	}
	if err := a.detachOne(c, c.Networks[i], t.path); err != nil {
		return err
	}
	c.Networks = slices.Delete(c.Networks, i, i+1)
	return a.unwantConnected(c, at.Network)
}

// leaveRuntimes detaches another runtime's container from a network that the runtime attached
// it to.
func (a *app) leaveRuntimes(t *target, at wire.Attachment) error {
	kept := a.store.Kept(at)
	if kept == nil {
		i := slices.IndexFunc(t.records, func(r *records.Record) bool { return r.Attachment == at })
		if i < 0 {
			return fmt.Errorf("network %s of container %s: libcni keeps nothing of it", at.Network, t.Title())
		}
		conf, err := listOf(t.records[i])
		if err != nil {
			return err
		}
		kept = &records.Connection{Container: at.Container, Attachment: records.Attachment{Network: at.Network, IfName: at.IfName, Conf: conf}, CNIVersion: "1.0.0"}
	}
	kept.Path = a.pluginPath()
	// The container stays: what else it is connected to does not go along.
	kept.Args = append(slices.Clone(kept.Args), [2]string{"DNET_CREATOR", string(records.ByConnect)})
	return a.connectionsOf(t.machine).Delete(kept, t.path)
}

// keepPorts has the other networks of a container publish the ports that the one publishes that it
// leaves: those that will be its gateway networks have them on the host. Where no other publishes
// any, they are kept on record.
func (a *app) keepPorts(t *target, leaving wire.Attachment) error {
	ports, by := t.published()
	if len(ports) == 0 {
		return nil
	}
	if slices.ContainsFunc(t.records, func(r *records.Record) bool {
		return r.Attachment != leaving && r.State == records.Up && r.Firewall != nil && !r.Firewall.Internal
	}) {
		return a.rebind(t, leaving, ports)
	}
	switch {
	case !slices.Contains(by, leaving) || len(by) > 1: // another one has them
		return nil
	case t.own != nil:
		t.own.Kept = ports // for the network that comes next
		return a.store.PutContainer(t.own)
	}
	return a.store.PutKeptPorts(&records.KeptPorts{
		Container: t.Container, Names: t.Names, NetNS: t.path, Cookie: t.cookie, Moment: records.Now(), Ports: ports,
	})
}

// rebind has the container's other networks bind ports as they are to without the one that it
// leaves. A port that another container or program has by now is no reason to stay.
func (a *app) rebind(t *target, leaving wire.Attachment, ports []firewall.Port) error {
	err := a.connectionsOf(t.machine).Rebind(t.Container, leaving, ports)
	if err != nil && container.Taken(err) != 0 {
		a.warn("container %s: %v", t.Title(), err)
		return nil
	}
	return err
}

// forget removes what is left of a container on a network that is gone, as Docker does.
func (a *app) forget(word, name string, why error) error {
	list, err := a.store.List("")
	if err != nil {
		return err
	}
	found := false
	for _, r := range list {
		named := r.Container == name || r.Name == strings.TrimPrefix(name, "/") || strings.HasPrefix(r.Container, name)
		if !isNamed(word)(r.Attachment.Network) || name == "" || !named || !a.orphaned(r) {
			continue
		}
		found = true
		if err := a.deleteOrphan(nil, r); err != nil {
			return err
		}
	}
	if !found {
		return why
	}
	return nil
}

// resultOf returns the addresses that an attachment gave the container.
func (t *target) resultOf(at wire.Attachment) network.Donation {
	for _, one := range t.Attachments {
		if one.Network == at.Network && one.IfName == at.IfName {
			return one
		}
	}
	return network.Donation{}
}
