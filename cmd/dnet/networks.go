package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
)

// A Network is one of the host's networks: from a file, or built in.
type Network struct {
	*catalog.Conflist
	Path    string    // its file; "" for one that is built in
	Created time.Time // when the file was last written; zero for one that is built in
}

// networks returns the networks of the host, those of files first. It prints a
// warning for each file that it leaves out.
func (a *app) networks() ([]Network, error) {
	list, broken, err := a.readNetworks()
	for _, b := range broken {
		a.warn("%v: left out", b)
	}
	return list, err
}

// readNetworks returns the networks of the host, and what is wrong with the files
// that it leaves out. If two files configure one network it leaves out the
// second: runtimes take the first.
func (a *app) readNetworks() (list []Network, broken []error, err error) {
	files, err := a.conf.List()
	if err != nil {
		return nil, nil, err
	}
	at := map[string]string{}
	for _, f := range files {
		var c *catalog.Conflist
		err := f.Err
		if filepath.Ext(f.Path) == ".conflist" && err == nil {
			f.Data, err = a.conf.WithSidePlugins(f.Data)
		}
		if err == nil {
			c, err = catalog.ParseConflist(f.Data, mode.All)
		}
		if err == nil && at[c.Name] != "" {
			err = fmt.Errorf("network %s is configured by %s", c.Name, at[c.Name])
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", f.Path, err))
			continue
		}
		at[c.Name] = f.Path
		list = append(list, Network{Conflist: c, Path: f.Path, Created: f.Modified})
	}
	for _, name := range catalog.BuiltIn() {
		if at[name] != "" {
			continue
		}
		c, err := catalog.ParseConflist(catalog.BuiltInConflist(name), mode.All)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, Network{Conflist: c})
	}
	return list, broken, nil
}

// allNetworks returns the networks, and behind them the configuration networks, which no
// container can be attached to.
func (a *app) allNetworks() ([]Network, error) {
	list, err := a.networks()
	if err != nil {
		return nil, err
	}
	configurations, broken, err := a.configurations()
	for _, b := range broken {
		a.warn("%v: left out", b)
	}
	return append(list, configurations...), err
}

// configurations returns the configuration networks, and what is wrong with those that it
// leaves out.
func (a *app) configurations() (list []Network, broken []error, err error) {
	files, err := a.conf.Configurations()
	for _, f := range files {
		c, err := (*catalog.Configuration)(nil), f.Err
		if err == nil {
			c, err = catalog.ParseConfiguration(f.Data)
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", f.Path, err))
			continue
		}
		list = append(list, Network{Conflist: c.Conflist(), Path: f.Path, Created: f.Modified})
	}
	return list, broken, err
}

// noEndpoints says more of a network that is not found: if a word is a configuration
// network's, it is, in Docker's words, no network for containers.
func (a *app) noEndpoints(word string, err error) error {
	list, _, _ := a.configurations()
	if notFound := (*catalog.NotFoundError)(nil); !errors.As(err, &notFound) {
		return err
	}
	if n, e := find(list, word); e == nil {
		return fmt.Errorf("cannot create endpoint on configuration-only network %s: create a network with --config-from %s", n.Name, n.Name)
	}
	return err
}

// find returns the network that a word names, see [catalog.Find].
func find(list []Network, word string) (Network, error) {
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	name, err := catalog.Find(names, word)
	if err != nil {
		return Network{}, err
	}
	for _, n := range list {
		if n.Name == name {
			return n, nil
		}
	}
	return Network{}, &catalog.NotFoundError{Word: word}
}

// isNamed reports whether a word is a network's name, or the beginning of its ID.
func isNamed(word string) func(name string) bool {
	return func(name string) bool {
		return name == word || word != "" && strings.HasPrefix(network.ID(name), word)
	}
}

// networkCommands are what may follow the word network: `docker network X` is `dnet X`, and `dnet network X`
// is that as well, for scripts in which only the program's name was changed.
func networkCommands() []string {
	return []string{"connect", "create", "disconnect", "inspect", "list", "ls", "prune", "remove", "rm"}
}

// withoutNetwork leaves out the word network before one of those commands, or before a flag.
func withoutNetwork(args []string) ([]string, error) {
	switch {
	case len(args) == 0 || args[0] != "network":
		return args, nil
	case len(args) > 1 && !strings.HasPrefix(args[1], "-") && !slices.Contains(networkCommands(), args[1]):
		return nil, fmt.Errorf("unknown command: dnet network %s: must be one of %v", args[1], networkCommands())
	}
	return args[1:], nil
}
