package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"dcni/pkg/engineapi"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// statusTemplate is the exit status when a template can't be read, which is
// Docker's for inspect.
const statusTemplate = 64

func newInspectCommand(a *app) *cobra.Command {
	return newInspect(a, &cobra.Command{
		Use:   "inspect [OPTIONS] NETWORK|CONTAINER [NETWORK|CONTAINER...]",
		Short: "Display detailed information on networks or containers",
	}, "")
}

// newInspect returns a command that inspects what is of a type; "": networks first of all.
func newInspect(a *app, cmd *cobra.Command, only string) *cobra.Command {
	o := &inspectOptions{kind: only}
	cmd.Args = atLeast(1)
	cmd.RunE = func(_ *cobra.Command, args []string) error { return a.inspectAll(args, o) }
	cmd.DisableFlagsInUseLine = true
	cmd.Flags().StringVarP(&o.format, "format", "f", "", "json, or a Go template")
	if only == "" {
		cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show what other nodes have on an overlay network, too")
		cmd.Flags().StringVar(&o.kind, "type", "", "Only inspect objects of the given type: network or container")
	}
	return cmd
}

// inspectOptions are the flags of inspect.
type inspectOptions struct {
	format, kind string
	verbose      bool
}

// inspectAll prints the networks that it finds, and then fails if it missed some.
func (a *app) inspectAll(words []string, o *inspectOptions) error {
	show, err := inspector(o.format)
	if err != nil {
		return &statusErr{statusTemplate, err}
	}
	if !slices.Contains([]string{"", "network", "container"}, o.kind) {
		return fmt.Errorf("%q is not a valid value for --type: must be network or container", o.kind)
	}
	all, err := a.allNetworks()
	if err != nil {
		return err
	}
	var found []any
	var errs []error
	for _, word := range words {
		one, err := a.inspectWord(all, word, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, one)
	}
	out, err := show(found)
	if _, e := a.stdout.Write(out); e != nil {
		return e
	}
	if err != nil {
		errs = append(errs, err)
	}
	for _, err := range errs {
		a.printError(err)
	}
	if len(errs) > 0 {
		return &statusErr{status: statusError}
	}
	return nil
}

// inspectWord describes the network that a word means, or else the container.
func (a *app) inspectWord(all []Network, word string, o *inspectOptions) (any, error) {
	if o.kind == "container" {
		return a.inspectContainer(word)
	}
	if c := a.meantContainer(all, word); c != nil && o.kind == "" {
		return a.inspectContainer(c.ID)
	}
	n, err := find(all, word)
	if notFound := (*catalog.NotFoundError)(nil); errors.As(err, &notFound) && o.kind == "" {
		if one, none := a.inspectContainer(word); none == nil {
			return one, nil
		}
	}
	if err != nil {
		return nil, err
	}
	out, err := a.inspect(n)
	if err == nil && o.verbose && isOverlay(n.Raw) {
		a.waiting("asking the nodes of network %s", n.Name)
		if out.Endpoints, err = a.endpointsOfAllNodes(n.Name); err != nil {
			a.warn("%s: the other nodes' part is not known: %v", n.Name, err)
		}
		return out, nil
	}
	return out, err
}

// inspectContainer describes a container of whichever runtime.
func (a *app) inspectContainer(word string) (any, error) {
	if own, err := a.findContainer(word); err == nil && own.Unreadable != nil {
		return nil, unreadable(own)
	}
	list, err := apiBackend{a}.Containers()
	if err != nil {
		return nil, err
	}
	c, err := engineapi.Find(list, word)
	if err != nil {
		return nil, err
	}
	return c.Inspect(), nil
}

// inspector returns how to show networks: as a list in JSON, with or without
// line breaks, or each by a template.
func inspector(format string) (func([]any) ([]byte, error), error) {
	switch format {
	case "":
		return func(found []any) ([]byte, error) { return listJSON(found, "    ") }, nil
	case "json":
		return func(found []any) ([]byte, error) { return listJSON(found, "") }, nil
	}
	t, err := parseTemplate(format)
	if err != nil {
		return nil, err
	}
	return func(found []any) ([]byte, error) {
		if len(found) == 0 {
			return []byte("\n"), nil
		}
		var b bytes.Buffer
		var errs []error
		for _, one := range found {
			text, err := fill(t, one)
			if err != nil {
				errs = append(errs, fmt.Errorf("template parsing error: %w", err))
				continue
			}
			fmt.Fprintln(&b, text)
		}
		if b.Len() == 0 {
			b.WriteByte('\n') // as Docker does
		}
		return b.Bytes(), errors.Join(errs...)
	}, nil
}

// fill executes a template. As with Docker, a template may also use the JSON's
// names: {{.Id}} for {{.ID}}.
func fill(t *template.Template, one any) (string, error) {
	var text strings.Builder
	if t.Execute(&text, one) == nil {
		return text.String(), nil
	}
	data, err := json.Marshal(one)
	if err != nil {
		return "", err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return "", err
	}
	text.Reset()
	err = t.Option("missingkey=error").Execute(&text, raw)
	return text.String(), err
}

func listJSON(found []any, indent string) ([]byte, error) {
	if len(found) == 0 {
		return []byte("[]\n"), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(found)
	return b.Bytes(), err
}

// inspect describes a network from its file, the registry, and the records of
// what any runtime attached to it.
func (a *app) inspect(n Network) (*catalog.Inspection, error) {
	f, err := n.Facts(a.registered(n))
	if err != nil {
		a.warn("%s: %v", n.Path, err)
	}
	attached, err := a.store.List(n.Name)
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	a.warnLost(attached)
	leased, err := leases.Of(a.store, f.DataDir, n.Name).Taken()
	if err != nil {
		return nil, err
	}
	shown := endpoints(attached)
	if n.Driver == "host" {
		if shown, err = a.onHostNetwork(n.Name); err != nil {
			return nil, err
		}
	}
	out := n.Inspect(n.Created, f, shown, leased)
	if isOverlay(n.Raw) {
		if out.Peers, err = a.peers(n.Name); err != nil {
			a.warn("%s: the other nodes' part is not known: %v", n.Name, err)
		}
	}
	if f.Parent != nil {
		out.Routes = f.Routes(addressesOf(f.Parent.Name))
	}
	return out, nil
}

// onHostNetwork are the containers of dnet run that have the host's network: no plugin is asked
// for them, so there is no attachment on record.
func (a *app) onHostNetwork(name string) ([]catalog.ShownEndpoint, error) {
	list, err := a.store.Containers()
	var shown []catalog.ShownEndpoint
	for _, c := range list {
		if c.Unreadable != nil { // whether it is there, is not known
			a.warn("%v", c.Unreadable)
			continue
		}
		if c.Process.NetNS == 0 && a.present(c) && c.Stage == records.Running {
			shown = append(shown, catalog.ShownEndpoint{Attachment: wire.Attachment{Network: name, Container: c.ID}, Name: c.Name})
		}
	}
	return shown, err
}

// addressesOf returns the addresses of a link of the host, none where it is not there.
func addressesOf(link string) (list []netip.Addr) {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return nil
	}
	addrs, _ := l.Addrs() // the link may be gone by now
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr())
		}
	}
	return list
}

// warnLost tells of attachments whose records can't be read.
func (a *app) warnLost(list []*records.Record) {
	for _, r := range list {
		if r.State != records.Lost {
			continue
		}
		_, err := a.store.Get(r.Attachment, r.Plugin)
		if err == nil {
			err = fmt.Errorf("the record of %s could not be read and was moved away", r.Attachment)
		}
		a.warn("%v", err)
	}
}

// endpoints are the attachments that are up, the node's own among them.
func endpoints(attached []*records.Record) []catalog.ShownEndpoint {
	var list []catalog.ShownEndpoint
	for _, r := range records.Interfaces(attached) {
		if r.State != records.Up {
			continue
		}
		e := catalog.ShownEndpoint{Attachment: r.Attachment, Name: containerName(r), MAC: r.MAC, Addresses: r.AddressesThere()}
		if r.Endpoint != nil {
			e.Ports = r.Endpoint.Shown()
		}
		list = append(list, e)
	}
	for _, r := range attached {
		if r.Creator == records.ByIngress && r.State == records.Up {
			e := catalog.ShownEndpoint{Attachment: r.Attachment, MAC: r.MAC, Addresses: r.AddressesThere()}
			e.Container, e.Name = service.IngressNames(r.Network)
			list = append(list, e)
		}
	}
	return list
}
