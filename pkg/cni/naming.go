package cni

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// This file is about what a container is called. Each runtime tells it in
// another way: docs/runtimes.md has a table.

// annotations is the capability that containerd's CRI and CRI-O offer: the
// annotations of the pod.
const annotations = "io.kubernetes.cri.pod-annotations"

// readNames reads what a runtime says of the container's names, and the result of
// the plugins before.
func (r *Request) readNames() error {
	conf := r.conf.Pick("runtimeConfig", "prevResult")
	rc, err := network.Pick(conf["runtimeConfig"], "runtimeConfig", "aliases")
	if err != nil {
		return err
	}
	if err := r.aliases(rc["aliases"]); err != nil {
		return err
	}
	if err := r.readAnnotations(); err != nil {
		return err
	}
	return r.prevResult(conf["prevResult"])
}

// aliases reads both shapes that runtimes send: a list, or lists by network.
func (r *Request) aliases(raw json.RawMessage) error {
	if !given(raw) {
		return nil
	}
	a, err := names.ParseAliases("runtimeConfig.aliases", raw)
	r.Aliases = a.On(r.Network)
	return err
}

// readAnnotations reads those that are for us; others are not looked at.
func (r *Request) readAnnotations() error {
	rc, err := network.Pick(r.conf.Pick("runtimeConfig")["runtimeConfig"], "runtimeConfig", annotations)
	if err != nil {
		return err
	}
	raw := rc[annotations]
	if !given(raw) {
		return nil
	}
	const field = "runtimeConfig." + annotations
	var all map[string]string
	if json.Unmarshal(raw, &all) != nil {
		return wire.Errorf(wire.CodeConfig, "%s: must be an object of strings", field)
	}
	r.annotated = names.Annotated(all)
	return checkAnnotated(field, r.annotated)
}

func checkAnnotated(field string, i names.Identity) error {
	for name, value := range map[string]string{names.AnnotationName: i.Name, names.AnnotationHostname: i.Hostname} {
		if value == "" {
			continue
		}
		if err := names.Check(field+"."+name, value); err != nil {
			return err
		}
	}
	for _, alias := range i.Aliases {
		if err := names.Check(field+"."+names.AnnotationAliases, alias); err != nil {
			return err
		}
	}
	return nil
}

// identity puts together what the runtime and its bundle say of a container. A
// name that its user chose for us comes before the runtime's.
func (r *Request) identity(bundle names.Identity) names.Identity {
	return names.Identity{
		Container: cmp.Or(bundle.Container, r.Container),
		Name:      cmp.Or(r.Args["DNET_NAME"], r.annotated.Name, r.Args["K8S_POD_NAME"], bundle.Name),
		Hostname:  cmp.Or(r.Args["DNET_HOSTNAME"], r.annotated.Hostname, bundle.Hostname, r.Args["NERDCTL_CNI_DHCP_HOSTNAME"]),
		Aliases:   slices.Concat(r.Aliases, r.annotated.Aliases, bundle.Aliases, r.Services),
	}
}

// names returns what a container is called on the network. Where names are seen to,
// a name of the runtime's that is no domain name is left out, and said to be.
func (e *Engine) names(r *Request, d network.Description) []string {
	if d.Joins != "" {
		return nil // as in Docker: the addresses are the other container's
	}
	if d.Names == nil {
		return r.names()
	}
	i := r.identity(e.Facts.Bundle(r.Container))
	for _, key := range d.Names.FromArgs {
		if name := r.Args[key]; name != "" {
			i.Aliases = append(i.Aliases, name)
		}
	}
	for _, name := range append(i.Aliases, i.Name, i.Hostname) {
		if name != "" && names.Check("", name) != nil {
			fmt.Fprintf(e.Log, "%s: name %q of container %s is left out: it is no domain name\n", e.Plugin.Type, name, r.Container)
		}
	}
	return i.Names()
}

// names returns what the runtime calls the container.
func (r *Request) names() []string {
	var names []string
	if r.Name != "" {
		names = append(names, r.Name)
	}
	return slices.Concat(names, r.Aliases, r.Services)
}

// exampleNames returns the names of a container for example.
func exampleNames(r *Request, e network.Endpoint) []string {
	return r.identity(names.Identity{Container: e.Container, Name: e.Container}).Names()
}
