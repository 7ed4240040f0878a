package migrate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The labels by which Compose knows its networks.
const (
	labelNetwork = "com.docker.compose.network"
	labelProject = "com.docker.compose.project"
)

// A composeFile is what is read of what `docker compose config` prints, or of a Compose file
// (the Compose Specification, networks).
type composeFile struct {
	Name     string
	Services map[string]struct {
		Networks    json.RawMessage
		NetworkMode string `json:"network_mode"`
	}
	Networks map[string]*composeNetwork
}

type composeNetwork struct {
	Name       string
	Driver     string
	DriverOpts map[string]text `json:"driver_opts"`
	Internal   truth
	Attachable truth
	EnableIPv4 truth `json:"enable_ipv4"`
	EnableIPv6 truth `json:"enable_ipv6"`
	Labels     composeLabels
	External   external
	IPAM       struct {
		Driver  string
		Options map[string]text
		Config  []struct {
			Subnet, Gateway string
			IPRange         string            `json:"ip_range"`
			Aux             map[string]string `json:"aux_addresses"`
		}
	}
}

// composeKeys are those of a network in a Compose file, beside x-ANYTHING.
var composeKeys = []string{
	"attachable", "driver", "driver_opts", "enable_ipv4", "enable_ipv6", "external", "internal", "ipam", "labels", "name",
}

// UnmarshalJSON refuses a key that Compose does not know: a network that was to be internal
// would be none.
func (c *composeNetwork) UnmarshalJSON(data []byte) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(data, &keys) == nil {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !slices.Contains(composeKeys, key) && !strings.HasPrefix(key, "x-") {
				return fmt.Errorf("network key %q: known are x-... and %s", key, strings.Join(composeKeys, ", "))
			}
		}
	}
	type plain composeNetwork
	return mismatch(json.Unmarshal(data, (*plain)(c)), "a network")
}

// mismatch says in plain words that a value of a whole has another type, without the byte: that
// would be one of the JSON that YAML was made into.
func mismatch(err error, whole string) error {
	e, is := errors.AsType[*json.UnmarshalTypeError](err)
	if !is {
		return err
	}
	return fmt.Errorf("%s must be %s, is %s", cmp.Or(strings.ToLower(e.Field), whole), wanted(e), e.Value)
}

// composeLabels are a map, or a list of KEY=VALUE.
type composeLabels map[string]string

// UnmarshalJSON reads both forms.
func (l *composeLabels) UnmarshalJSON(data []byte) error {
	var list []text
	if json.Unmarshal(data, &list) == nil {
		*l = composeLabels{}
		for _, word := range list {
			key, value, _ := strings.Cut(string(word), "=")
			(*l)[key] = value
		}
		return nil
	}
	var labels map[string]text
	if err := json.Unmarshal(data, &labels); err != nil {
		return errors.New("labels must be a mapping, or a list of KEY=VALUE")
	}
	*l = texts(labels)
	return nil
}

// external is true or false, or in old files {name: NAME}.
type external struct {
	is   bool
	name string
}

// UnmarshalJSON reads both forms.
func (e *external) UnmarshalJSON(data []byte) error {
	var old struct{ Name string }
	if data[0] == '{' {
		err := json.Unmarshal(data, &old)
		e.is, e.name = true, old.Name
		return err
	}
	var t truth
	err := t.UnmarshalJSON(data)
	e.is = t.set()
	return err
}

// defaultNetwork is the network of a project's services that name none.
const defaultNetwork = "default"

// readCompose reads a project's networks.
func readCompose(data []byte, project string) (*Source, error) {
	data, err := interpolated(data)
	if err != nil {
		return nil, err
	}
	var file composeFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("is not what docker compose config prints: %w", mismatch(err, "the file"))
	}
	project = cmp.Or(project, file.Name) // as with docker compose -p
	if file.Networks == nil {
		file.Networks = map[string]*composeNetwork{}
	}
	if _, is := file.Networks[defaultNetwork]; !is && file.needsDefault() {
		file.Networks[defaultNetwork] = nil
	}
	out := &Source{}
	for _, key := range slices.Sorted(maps.Keys(file.Networks)) {
		c := file.Networks[key]
		if c == nil {
			c = &composeNetwork{}
		}
		if c.External.is {
			out.External = append(out.External, cmp.Or(c.Name, c.External.name, key))
			continue
		}
		if c.Name == "" && project == "" {
			return nil, fmt.Errorf("network %s has no name of its own, and the file does not name its project: give it with --project-name", key)
		}
		n, err := c.network(key, project)
		if err != nil {
			return nil, err
		}
		out.Networks = append(out.Networks, n)
	}
	return out, nil
}

// needsDefault reports whether a service is on the network that need not be written.
func (f composeFile) needsDefault() bool {
	for _, s := range f.Services {
		named := len(s.Networks) > 0 && string(s.Networks) != "null" && string(s.Networks) != "{}" && string(s.Networks) != "[]"
		if !named && s.NetworkMode == "" {
			return true
		}
	}
	return false
}

func (c *composeNetwork) network(key, project string) (Network, error) {
	var n Network
	n.Name = cmp.Or(c.Name, project+"_"+key)
	n.Driver, n.Internal, n.Attachable = cmp.Or(c.Driver, "bridge"), c.Internal.set(), c.Attachable.set()
	n.DriverOptions, n.IPAMOptions = texts(c.DriverOpts), texts(c.IPAM.Options)
	n.IPAMDriver = cmp.Or(c.IPAM.Driver, "default")
	n.Labels = map[string]string{labelNetwork: key}
	if project != "" {
		n.Labels[labelProject] = project
	}
	maps.Copy(n.Labels, c.Labels)
	var subnets []subnet
	for _, s := range c.IPAM.Config {
		subnets = append(subnets, subnet{s.Subnet, s.IPRange, s.Gateway, s.Aux})
	}
	err := n.setSubnets(subnets)
	n.setFamilies(c.EnableIPv4.is, c.EnableIPv6.is)
	return n, err
}
