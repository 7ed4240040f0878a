package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/migrate"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records/registry"
	"dcni/pkg/yaml"
)

// importOptions are the flags of import.
type importOptions struct {
	project string
	dryRun  bool
}

func newImportCommand(a *app) *cobra.Command {
	o := &importOptions{}
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] [FILE...]",
		Short: "Create the networks that docker network inspect or docker compose config printed",
		Long: "Create the networks that files describe: the JSON of docker network inspect, or a project's networks in the YAML or JSON of " +
			"docker compose config. Without a file, or with -, standard input is read. Either all of them are created or none.",
		Example: "  dnet import networks.json\n" +
			"  dnet import --dry-run networks.json\n" +
			"  dnet import --project-name shop compose.yaml",
		DisableFlagsInUseLine: true,
		RunE:                  func(_ *cobra.Command, args []string) error { return a.importAll(o, args) },
	}
	cmd.Flags().StringVarP(&o.project, "project-name", "p", "", "Compose project, whichever the file names")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "Print the commands that would create them, and create nothing")
	return cmd
}

// maxImport is how long a file may be, in bytes.
const maxImport = 16 << 20

// importAll reads all files before it creates anything.
func (a *app) importAll(o *importOptions, paths []string) error {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	var all migrate.Source
	for _, path := range paths {
		data, name, err := a.readInput(path, maxImport)
		if err != nil {
			return err
		}
		s, err := migrate.Read(data, o.project, yaml.ToJSON)
		if err != nil {
			return fmt.Errorf("%s %w: nothing was changed", name, err)
		}
		all.Networks = append(all.Networks, s.Networks...)
		all.Left, all.External = append(all.Left, s.Left...), append(all.External, s.External...)
	}
	for _, l := range all.Left {
		a.warn("network %s %s: left out", l.Name, l.Why)
	}
	if err := a.checkImports(all); err != nil {
		return err
	}
	if o.dryRun {
		var text strings.Builder
		for _, n := range all.Networks {
			text.WriteString(n.Command() + "\n")
		}
		_, err := a.stdout.WriteString(text.String())
		return err
	}
	return a.importNetworks(all)
}

// readInput reads a file, or standard input, which may have so many bytes.
func (a *app) readInput(path string, most int64) (data []byte, name string, err error) {
	in, name := a.stdin, "standard input"
	if path != "-" {
		if in, err = os.Open(path); err != nil {
			return nil, path, err
		}
		defer in.Close()
		name = path
	}
	data, err = io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: is longer than %d bytes", name, most)
	}
	return data, name, err
}

// checkImports finds what is wrong with networks before any of them is created.
func (a *app) checkImports(s migrate.Source) error {
	list, err := a.allNetworks()
	if err != nil {
		return err
	}
	there := func(name string) bool {
		return slices.ContainsFunc(list, func(n Network) bool { return n.Name == name })
	}
	for _, name := range s.External {
		if !there(name) {
			a.warn("network %s is external, and not there: create it before the containers", name)
		}
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		a.waiting("checking network %s (%d of %d)", n.Name, i+1, len(s.Networks))
		if there(n.Name) {
			return fmt.Errorf("%w: nothing was changed; remove it first (dnet rm %s), or take it out of the file", alreadyExists(n.Name), n.Name)
		}
		if err := a.checkImport(*n, s.Networks); err != nil {
			return fmt.Errorf("network %s: %w: nothing was changed", n.Name, err)
		}
	}
	return nil
}

// importNetworks creates networks. If one can't be, those that were created are removed again.
func (a *app) importNetworks(s migrate.Source) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var made []string
	for i := range s.Networks {
		n := &s.Networks[i]
		err := a.importNetwork(n)
		if err == nil && ctx.Err() != nil {
			made, err = append(made, n.Name), errors.New("interrupted")
		}
		if err != nil {
			return errors.Join(fmt.Errorf("network %s: %w: nothing was changed", n.Name, err), a.undoImport(made))
		}
		made = append(made, n.Name)
	}
	for _, name := range made {
		fmt.Fprintln(a.out(true), name)
	}
	return nil
}

// checkImport finds what is wrong with a network before any of them is created.
func (a *app) checkImport(n migrate.Network, with []migrate.Network) error {
	o := n.Options
	switch {
	case n.ConfigOnly:
		_, err := o.Configuration()
		return err
	case o.ConfigFrom != "" && slices.ContainsFunc(with, func(c migrate.Network) bool { return c.ConfigOnly && c.Name == o.ConfigFrom }):
		return nil
	}
	unlock, err := a.configureFrom(&o)
	if err != nil {
		return err
	}
	defer unlock()
	if o.Driver == overlayDriver {
		_, err := wantedOverlay(&o)
		return err
	}
	draft, err := a.draft(&o)
	if err != nil {
		return err
	}
	if err := a.checkBeside(draft, o.Name); err != nil {
		return err
	}
	return overlaps(o, with)
}

// checkBeside finds what is wrong with a network beside those that are there.
func (a *app) checkBeside(draft *catalog.Draft, name string) error {
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := a.parentFree(draft.Description); err != nil {
		return err
	}
	c := creation{app: a, draft: draft, name: name, registry: registry.Of(a.store, "")}
	return c.check(cni.Register(draft.Description, m))
}

// overlaps refuses a network one of whose subnets another of the same files has, but on a
// parent, where ranges may be apart.
func overlaps(o catalog.Options, with []migrate.Network) error {
	for _, other := range with {
		if other.Name == o.Name {
			break // those behind it are checked against it
		}
		if other.ConfigOnly || other.Driver != "bridge" && o.Driver != "bridge" {
			continue
		}
		for _, x := range o.Subnets {
			for _, y := range other.Subnets {
				p, bad := netip.ParsePrefix(x)
				q, worse := netip.ParsePrefix(y)
				if bad == nil && worse == nil && p.Overlaps(q) {
					return catalog.Overlap(p, o.Name, q, other.Name)
				}
			}
		}
	}
	return nil
}

// importNetwork creates one network.
func (a *app) importNetwork(n *migrate.Network) error {
	create := a.createNetwork
	if n.ConfigOnly {
		create = a.createConfiguration
	}
	_, err := create(&n.Options)
	return err
}

// undoImport removes the networks that were made, the last one first.
func (a *app) undoImport(made []string) error {
	if len(made) == 0 {
		return nil
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, name := range slices.Backward(made) {
		err = errors.Join(err, a.remove(m, name))
	}
	return err
}

func newExportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export [NETWORK...]",
		Short: "Print the commands that create the networks that are here",
		Long: "Print a command for each network, or for those that are named: on another host a shell makes the same networks of them. " +
			"A network that dnet create can't make is a comment, and a warning.",
		Example:               "  dnet export > networks.sh\n  dnet export web lab",
		DisableFlagsInUseLine: true,
		RunE:                  func(_ *cobra.Command, args []string) error { return a.export(args) },
	}
}

// export prints commands, those of configuration networks first.
func (a *app) export(words []string) error {
	all, err := a.allNetworks()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(x, y Network) int { return catalog.Natural(x.Name, y.Name) })
	if len(words) > 0 {
		var asked []Network
		for _, word := range words {
			n, err := find(all, word)
			if err != nil {
				return err
			}
			asked = append(asked, n)
		}
		all = asked
	}
	var first, then []string
	for _, n := range all {
		if n.Path == "" && len(words) == 0 {
			continue // predefined
		}
		command, why := a.exportOf(n)
		if why != nil {
			a.warn("network %s: %v: copy its file %s", n.Name, why, n.Path)
			command = fmt.Sprintf("# network %s: %v: copy its file %s", n.Name, strings.ReplaceAll(why.Error(), "\n", " "), n.Path)
		}
		if n.Configuration != nil {
			first = append(first, command)
		} else {
			then = append(then, command)
		}
	}
	var text strings.Builder
	for _, command := range append(first, then...) {
		text.WriteString(command + "\n")
	}
	_, err = a.stdout.WriteString(text.String()) // a copy that is cut is none
	return err
}

// exportOf returns the command that makes a network, or why there is none.
func (a *app) exportOf(n Network) (string, error) {
	if catalog.Predefined(n.Name) {
		return "", errors.New("is predefined")
	}
	f, err := n.Facts(a.registered(n))
	if err != nil {
		return "", err
	}
	out, err := migrate.Of(n.Conflist, f)
	if err != nil {
		return "", err
	}
	if out.ConfigFrom != "" {
		if _, err := a.configuration(out.ConfigFrom); err != nil {
			a.warn("network %s: %v: the command has its values", n.Name, err)
			out.ConfigFrom = ""
		}
	}
	if out.ConfigOnly || out.ConfigFrom != "" || isOverlay(n.Raw) {
		return out.Command(), nil
	}
	o := out.Options
	draft, err := a.draft(&o)
	if err != nil {
		return "", err
	}
	if n.Main == nil {
		return out.Command(), nil
	}
	is, err := n.Main.Describe(n.Name, n.Plugins[0])
	if err != nil {
		return "", err
	}
	would := draft.Description
	if len(is.IPAM.Own.Subnets) == 0 { // it has what was chosen at the first ADD
		is.IPAM, is.Families = would.IPAM, would.Families
	}
	if !reflect.DeepEqual(is, would) {
		return "", errors.New("its file says more than dnet create can")
	}
	return out.Command(), nil
}
