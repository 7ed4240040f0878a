package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/cni"
	"dcni/pkg/firewall"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A target is the running container that is to be connected to a network or disconnected
// from one, whichever runtime's it is.
type target struct {
	*network.Donor
	machine machine
	path    string             // leads to its network namespace now
	cookie  uint64             // of that namespace
	own     *records.Container // nil: it is another runtime's
	records []*records.Record
}

// findTarget finds the container that a word means: by its ID, its name, the beginning of its
// ID, or the number of one of its processes; or, if path is not "", that whose network
// namespace is there.
func (a *app) findTarget(m machine, word, path string) (*target, error) {
	list, err := m.Donors()
	if err != nil {
		return nil, err
	}
	t := &target{machine: m}
	if path != "" {
		err = t.at(list, path, word)
	} else {
		err = t.find(list, word)
	}
	if err != nil {
		return nil, err
	}
	if t.own, err = a.store.Container(t.Container); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return t, a.refresh(t)
}

// refresh reads anew what is on record of the container. It fails if the container's network
// namespace is not there any more.
func (a *app) refresh(t *target) error {
	found, err := t.machine.OpenNetNS(t.path)
	if err != nil || found.Cookie != t.cookie {
		return errors.Join(err, fmt.Errorf("container %s has ended", t.Title()))
	}
	if t.records, err = a.store.OfContainer(t.Container); err != nil {
		return err
	}
	t.forgetFormer()
	return nil
}

// forgetFormer leaves out what is on record of a namespace that the container had before it
// was started again, and what libcni keeps of networks that it has left.
func (t *target) forgetFormer() {
	former := func(r *records.Record) bool { return r.Cookie != 0 && r.Cookie != t.cookie && r.Target != t.cookie }
	t.Attachments = slices.DeleteFunc(slices.Clone(t.Attachments), func(at network.Donation) bool {
		return slices.ContainsFunc(t.records, func(r *records.Record) bool {
			return r.Attachment.Network == at.Network && r.IfName == at.IfName && former(r)
		})
	})
	t.records = slices.DeleteFunc(t.records, former)
	t.Attachments = slices.DeleteFunc(t.Attachments, func(at network.Donation) bool { return isLeft(t.machine, t.path, t.records, at) })
}

// isLeft reports whether libcni keeps an attachment that the container in a sandbox has left:
// nothing is on record of it, and its interface is not there or another attachment's.
func isLeft(m machine, path string, attached []*records.Record, at network.Donation) bool {
	i := slices.IndexFunc(attached, func(r *records.Record) bool { return r.IfName == at.IfName })
	if i >= 0 {
		return !slices.ContainsFunc(attached, func(r *records.Record) bool { return r.IfName == at.IfName && r.Attachment.Network == at.Network })
	}
	there, err := m.HasLink(path, at.IfName)
	return err == nil && !there
}

// find finds a container by a word.
func (t *target) find(list []network.Donor, word string) error {
	var err error
	t.Donor, err = network.FindContainer(list, word, func(d *network.Donor) bool {
		path, found := t.machine.NetNSOf(d)
		if path != "" {
			t.path, t.cookie = path, found.Cookie
		}
		return path != ""
	})
	if unknown, is := errors.AsType[*network.NoContainerError](err); is {
		if pid, bad := strconv.Atoi(word); bad == nil && pid > 0 && t.at(list, fmt.Sprintf("/proc/%d/ns/net", pid), "") == nil {
			return nil
		}
		return unknown
	}
	return err
}

// at finds the container whose network namespace is at a path. Where no container is known to
// be there, name is what it is called from now on, or it is called by its namespace.
func (t *target) at(list []network.Donor, path, name string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	found, err := t.machine.OpenNetNS(path)
	if err != nil {
		return err
	}
	t.path, t.cookie = path, found.Cookie
	if found.Own {
		t.path = network.HostNetNS
	}
	for i := range list {
		if at, there := t.machine.NetNSOf(&list[i]); at != "" && there.Cookie == found.Cookie {
			t.Donor = &list[i]
			return nil
		}
	}
	id := fmt.Sprintf("netns-%x", found.Cookie)
	if name != "" && !network.ValidName(name) {
		return fmt.Errorf("container %q: must be %s", name, network.NameRule)
	}
	t.Donor = &network.Donor{Container: id}
	if name != "" {
		t.Donor = &network.Donor{Container: name, Names: []string{name}}
	}
	return nil
}

// on reports whether the container is on a network, and by which interface.
func (t *target) on(name string) (ifName string, is bool) {
	for _, at := range t.Attachments {
		if at.Network == name {
			return at.IfName, true
		}
	}
	return "", false
}

// wants reports whether a container of dnet's is to be on a network when it is started again.
func (t *target) wants(name string) bool {
	if t.own == nil {
		return false
	}
	w, _, err := wanted(t.own)
	return err == nil && w.Has(name)
}

// checkOwnNamespace refuses a container that has no network namespace of its own, in Docker's
// words.
func (t *target) checkOwnNamespace() error {
	shared := t.path == network.HostNetNS || t.own != nil && t.own.Donor != "" ||
		slices.ContainsFunc(t.records, func(r *records.Record) bool { return r.Target != 0 })
	if shared {
		return sharesNamespace()
	}
	return nil
}

// sharesNamespace is Docker's error of connecting such a container.
func sharesNamespace() error {
	return network.Refuse(network.InvalidParameter, "container sharing network namespace with another container or host cannot be connected to any other network")
}

// hasLink reports whether the sandbox has a link of a name.
func (t *target) hasLink(name string) (bool, error) { return t.machine.HasLink(t.path, name) }

// args returns CNI_ARGS for a network that dnet connects the container to: it is called there
// as on its others.
func (t *target) args() [][2]string {
	if t.own != nil {
		return argsOf(t.own, records.ByConnect)
	}
	args := [][2]string{{"IgnoreUnknown", "1"}, {"DNET_CREATOR", string(records.ByConnect)}}
	if len(t.Names) == 0 {
		return args
	}
	if namespace, pod, ok := strings.Cut(t.Names[0], "/"); ok {
		return append(args, [2]string{"K8S_POD_NAMESPACE", namespace}, [2]string{"K8S_POD_NAME", pod})
	}
	return append(args, [2]string{"DNET_NAME", t.Names[0]})
}

// annotations returns the name that annotations gave a pod, as annotations: for others than
// pods nothing.
func (t *target) annotations() map[string]string {
	for _, r := range t.records {
		_, pod, isPod := strings.Cut(r.Name, "/")
		if isPod && r.Resolver != nil && len(r.Names) > 0 && r.Names[0] != pod {
			return map[string]string{names.AnnotationName: r.Names[0]}
		}
	}
	return nil
}

// published returns the ports that the container has published, with the host ports that
// were chosen, and the attachments that have them.
func (t *target) published() (ports []firewall.Port, by []wire.Attachment) {
	return publishedBy(t.records)
}

// publishedBy does so by a container's records.
func publishedBy(list []*records.Record) (ports []firewall.Port, by []wire.Attachment) {
	for _, r := range list {
		if r.State != records.Up || r.Endpoint == nil {
			continue
		}
		by = append(by, r.Attachment)
		ports = cni.AddPorts(ports, r.Endpoint.Ports)
	}
	return ports, by
}

// exposed returns the ports that the container exposes: those that are published are among them.
func (t *target) exposed() (list []firewall.Exposed) {
	for _, r := range t.records {
		list = append(list, r.Exposed...)
	}
	if t.own != nil {
		list = append(list, exposedBy(t.own)...)
	}
	return firewall.ExposedPorts(list, nil)
}
