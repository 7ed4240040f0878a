package main

import (
	"fmt"
	"time"

	"dcni/pkg/network"
)

// A Network is one of the host's networks: from a file, or built in.
type Network struct {
	*network.Conflist
	Path    string    // its file; "" for one that is built in
	Created time.Time // when the file was last written; zero for one that is built in
}

// networks returns the networks of the host, those of files first. A file that
// says nothing one can understand is told of on stderr, and so is the second of
// two that configure one network: as with the runtimes, the first counts.
func (a *app) networks() ([]Network, error) {
	files, err := a.conf.List()
	if err != nil {
		return nil, err
	}
	var list []Network
	at := map[string]string{}
	for _, f := range files {
		var c *network.Conflist
		err := f.Err
		if err == nil {
			c, err = network.ParseConflist(f.Data)
		}
		if err == nil && at[c.Name] != "" {
			err = fmt.Errorf("network %s is configured by %s", c.Name, at[c.Name])
		}
		if err != nil {
			fmt.Fprintf(a.stderr, "dnet: warning: %s: %v: left out\n", f.Path, err)
			continue
		}
		at[c.Name] = f.Path
		list = append(list, Network{Conflist: c, Path: f.Path, Created: f.Modified})
	}
	for _, name := range network.BuiltIn() {
		if at[name] != "" {
			continue
		}
		c, err := network.ParseConflist(network.BuiltInConflist(name))
		if err != nil {
			return nil, err
		}
		list = append(list, Network{Conflist: c})
	}
	return list, nil
}

// find returns the network that a word means, see [network.Find].
func find(list []Network, word string) (Network, error) {
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	name, err := network.Find(names, word)
	if err != nil {
		return Network{}, err
	}
	for _, n := range list {
		if n.Name == name {
			return n, nil
		}
	}
	return Network{}, &network.NotFoundError{Word: word}
}
