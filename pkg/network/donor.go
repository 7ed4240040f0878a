package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Donor is a container whose network namespace another container may join. It may be
// attached by any CNI runtime and any suite of plugins, or be one of dnet.
type Donor struct {
	Container   string   // CNI_CONTAINERID
	ID          string   // by which users know it, where the runtime puts its namespace before that
	Names       []string // by which users know it
	State       string   // Docker's word for what it is if it does not run
	Namespaces  []Namespace
	Attachments []Donation
}

// A Namespace is where the network namespace of a container was. Of what is not known
// nothing is compared.
type Namespace struct {
	Path   string
	Cookie uint64 // see wire.Sandbox; 0: not known
	Start  uint64 // when the process of a path in /proc started; 0: not known
	// Addresses are what its container was given. Where neither of the above is known, the
	// namespace that is at the path by now is the container's only if it has one of them.
	Addresses []netip.Addr
}

// A Donation is what one attachment of a donor got.
type Donation struct {
	Network, IfName string
	Result          json.RawMessage // of its ADD, with its cniVersion
}

// The words of Docker for a container that does not run (moby, container/state.go).
const (
	Created = "created"
	Exited  = "exited"
)

// FindDonor returns the container that a word means, for the container self to join, as
// [FindContainer] does. The errors are Docker's.
func FindDonor(list []Donor, word, self string, runs func(*Donor) bool) (*Donor, error) {
	if slices.ContainsFunc(match(list, word), func(d *Donor) bool { return d.Container == self }) {
		return nil, errors.New("cannot join own network namespace")
	}
	d, err := FindContainer(list, word, runs)
	if stopped, is := errors.AsType[*NotRunningError](err); is {
		return nil, fmt.Errorf("cannot join network namespace of a non running container: %w", stopped)
	}
	if err != nil {
		return nil, fmt.Errorf("joining network namespace of container: %w", err)
	}
	return d, nil
}

// FindContainer returns the running container that a word means: by its ID, else by its
// name, else by the beginning of its ID. Of several that one name is of, only those that run
// count. The errors are Docker's, whose daemon looks for a container in the same order; that
// of a word which means several lists them.
func FindContainer(list []Donor, word string, runs func(*Donor) bool) (*Donor, error) {
	found := match(list, word)
	if len(found) == 0 {
		return nil, &NoContainerError{word}
	}
	var running []*Donor
	for _, d := range found {
		if runs(d) {
			running = append(running, d)
		}
	}
	switch len(running) {
	case 0:
		return nil, &NotRunningError{found[0]}
	case 1:
		return running[0], nil
	}
	return nil, Refuse(InvalidParameter, "Multiple IDs found with provided prefix: %s: %s", word, titles(running))
}

// A NoContainerError says that a word means no container.
type NoContainerError struct{ Word string }

func (e *NoContainerError) Error() string { return "No such container: " + e.Word }

// A NotRunningError says that a container does not run.
type NotRunningError struct{ *Donor }

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("container %s is %s", e.Title(), e.State)
}

// match returns the containers that a word means.
func match(list []Donor, word string) []*Donor {
	name := strings.TrimPrefix(word, "/")
	if word == "" {
		return nil
	}
	for _, means := range []func(d *Donor) bool{
		func(d *Donor) bool { return d.Container == word || d.ID == word },
		func(d *Donor) bool { return slices.Contains(d.Names, name) },
		func(d *Donor) bool { return strings.HasPrefix(d.Container, word) || strings.HasPrefix(d.ID, word) },
	} {
		var found []*Donor
		for i := range list {
			if means(&list[i]) {
				found = append(found, &list[i])
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// Title returns the container's name, or its ID where it has none.
func (d *Donor) Title() string {
	if len(d.Names) > 0 {
		return d.Names[0]
	}
	return d.Container
}

// titles lists containers by ID and name.
func titles(list []*Donor) string {
	var words []string
	for _, d := range list {
		word := d.Container
		if len(d.Names) > 0 {
			word += " (" + d.Names[0] + ")"
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
