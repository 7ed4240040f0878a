// Package container parses the options of `dnet run`: Docker's options in Docker's
// syntax and with Docker's errors. It also composes the files that each container has
// of its own: resolv.conf and hosts.
package container

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
)

// Options are the command line of `dnet run`, as typed.
type Options struct {
	Name     string
	Hostname string
	Workdir  string
	Env      []string

	Networks   []string
	IP, IP6    string
	MAC        string
	Aliases    []string
	Links      []string
	Expose     []string
	Publish    []string
	PublishAll bool
	AddHosts   []string
	DNS        []string
	DNSSearch  []string
	DNSOptions []string

	User       string
	Labels     []string
	LabelFiles []string // texts of files
	EnvFiles   []string // likewise
	Restart    string
}

// A Spec describes a container that is to be made. All that can be checked without
// the host has been checked.
type Spec struct {
	Name     string // "": dnet makes one
	Hostname string // "": the short ID, or the host's on the network host
	Workdir  string // "": the working directory of dnet
	Env      []string
	Networks []Network // the first is eth0; none only of a container that left all and is started again
	Ports    []Publish
	Exposed  []firewall.Exposed
	Hosts    []HostEntry
	DNS      DNS
	User     string // as typed; "": root
	Labels   map[string]string
	Again    bool // it is started again, on networks that it was run on or connected to: they may be together
}

// HostNetwork reports whether the container is to have the host's network.
func (s *Spec) HostNetwork() bool { return len(s.Networks) > 0 && s.Networks[0].Name == "host" }

// Donor returns the container whose network namespace the container is to join, by ID,
// the beginning of that, or name; "" for none.
func (s *Spec) Donor() string {
	if len(s.Networks) == 0 {
		return ""
	}
	return s.Networks[0].donor()
}

// Parse reads the options.
func (o *Options) Parse() (*Spec, error) {
	s := &Spec{Name: strings.TrimPrefix(o.Name, "/"), Hostname: o.Hostname, Workdir: o.Workdir, User: o.User}
	for _, step := range []func(*Spec) error{o.words, o.environment, o.labels, o.networks, o.ports, o.files, o.joins} {
		if err := step(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// lazily compiles a regular expression at its first use. Compiling all of them took a
// twentieth of the time that dnet needs to start.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// nameForm is Docker's rule for names of containers.
var nameForm = lazily(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxWord is the limit of names, in bytes.
const maxWord = 255

// maxHostname is the limit of a host's name in bytes (HOST_NAME_MAX).
const maxHostname = 64

var hostnameForm = lazily(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?$`)

func (o *Options) words(s *Spec) error {
	switch {
	case len(s.Name) > maxWord:
		return fmt.Errorf("Invalid container name (%s): must be at most %d bytes", o.Name, maxWord) //nolint:staticcheck // like Docker's sentence
	case o.Name != "" && !nameForm().MatchString(s.Name):
		return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", o.Name) //nolint:staticcheck // Docker's sentence
	case o.Hostname != "" && (!hostnameForm().MatchString(o.Hostname) || len(o.Hostname) > maxHostname):
		return fmt.Errorf("invalid hostname: %q: must be at most %d letters, digits, '-', '_' and '.'", o.Hostname, maxHostname)
	case o.Workdir != "" && !strings.HasPrefix(o.Workdir, "/"):
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", o.Workdir)
	case o.Restart != "" && o.Restart != "no":
		return fmt.Errorf("--restart %s: must be no: there is no daemon that would start it again; have systemd run dnet run, with Restart=", o.Restart)
	}
	return nil
}

// CheckEnv refuses a variable that is neither K=V nor K.
func CheckEnv(env []string) error {
	for _, kv := range env {
		if kv == "" || strings.HasPrefix(kv, "=") {
			return fmt.Errorf("invalid environment variable: %s", kv)
		}
	}
	return nil
}

// invalidArgument is Docker's sentence for a flag's value that can't be read.
func invalidArgument(value, flag string, err error) error {
	return fmt.Errorf("invalid argument %q for \"%s\" flag: %w", value, flag, err)
}

func (o *Options) networks(s *Spec) error {
	for _, text := range o.Networks {
		n, err := ParseNetwork(text)
		if err != nil {
			return err
		}
		s.Networks = append(s.Networks, n)
	}
	if len(s.Networks) == 0 {
		s.Networks = []Network{{Name: "bridge"}}
	}
	if len(s.Networks) > 1 && s.Networks[0].Name == "default" {
		return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	if err := s.Networks[0].merge(flags{o.IP, o.IP6, o.MAC, o.Aliases, o.Links}); err != nil {
		return err
	}
	if err := CheckNetworks(s.Networks); err != nil {
		return err
	}
	if s.Networks[0].Name == "default" {
		s.Networks[0].Name = "bridge"
	}
	return nil
}

func (o *Options) ports(s *Spec) error {
	for _, text := range o.Publish {
		list, err := ParsePublish(text)
		if err != nil {
			return err
		}
		s.Ports = append(s.Ports, list...)
	}
	spread(s.Ports)
	var err error
	if s.Exposed, err = parseExpose(o.Expose); err == nil && o.PublishAll {
		s.publishAll()
	}
	return err
}

func (o *Options) files(s *Spec) error {
	var err error
	if s.Hosts, err = parseHosts(o.AddHosts); err != nil {
		return err
	}
	s.DNS, err = ParseDNS(o.DNS, o.DNSSearch, o.DNSOptions)
	return err
}

// joins refuses what a container in the network namespace of another one can't have: it
// is the other's. The order and the words are Docker's (moby, daemon/internal/runconfig),
// which takes --dns-search and --dns-option and makes nothing of them.
func (o *Options) joins(s *Spec) error {
	what := ""
	switch {
	case s.Donor() == "":
		return nil
	case o.Hostname != "":
		what = "hostname and the network mode"
	case s.DNS.given():
		what = "dns and the network mode"
	case len(s.Hosts) > 0:
		what = "custom host-to-IP mapping and the network mode"
	case len(s.Ports) > 0:
		what = "port publishing and the container type network mode"
	case len(o.Expose) > 0:
		what = "port exposing and the container type network mode"
	default:
		return nil
	}
	return errors.New("conflicting options: " + what)
}

// MadeName makes a name for a container without one: its command and the first digits
// of its ID.
func MadeName(command, id string) string {
	base := command[strings.LastIndexByte(command, '/')+1:]
	base = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, base)
	const most = 20 // letters of a command that people read
	if base == "" {
		base = "run"
	}
	return base[:min(len(base), most)] + "-" + id[:4]
}

// ShortID returns the part of an ID that is shown to people.
func ShortID(id string) string { return id[:min(len(id), 12)] }

// Named is a container's ID and name.
type Named struct{ ID, Name string }

// Find returns which of the containers a word means: by its ID, its name, or
// the beginning of its ID if that of no other begins so. The errors are
// Docker's; that of several names them.
func Find(list []Named, word string) (int, error) {
	bare := strings.TrimPrefix(word, "/")
	var begin []int
	for i, c := range list {
		if c.ID == word || c.Name == bare {
			return i, nil
		}
	}
	for i, c := range list {
		if word == "" || !strings.HasPrefix(c.ID, word) {
			continue
		}
		begin = append(begin, i)
	}
	switch len(begin) {
	case 0:
		return -1, &network.NoContainerError{Word: word}
	case 1:
		return begin[0], nil
	}
	var found []string
	for _, i := range begin {
		found = append(found, ShortID(list[i].ID)+" ("+list[i].Name+")")
	}
	return -1, fmt.Errorf("Multiple IDs found with provided prefix: %s: %s", word, strings.Join(found, ", ")) //nolint:staticcheck // Docker's sentence
}
