// Package migrate reads networks as Docker and Compose write them down, and writes those that
// are there as commands: `dnet import` and `dnet export`.
package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/network/catalog"
)

// A Network is one that is to be made, as `dnet create` is told.
type Network struct {
	catalog.Options
	ConfigOnly bool
}

// A Left is a network that is not to be made, and why.
type Left struct{ Name, Why string }

// A Source is what a file says.
type Source struct {
	Networks []Network // configuration networks first
	Left     []Left
	External []string // networks that must be there already
}

// Read reads what `docker network inspect` or `docker compose config` printed, as JSON; toJSON
// makes JSON of YAML. project is the Compose project; "": as the file says.
func Read(data []byte, project string, toJSON func([]byte) ([]byte, error)) (*Source, error) {
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if len(data) == 0 {
		return nil, errors.New("is empty: must be what docker network inspect or docker compose config printed")
	}
	if data[0] != '[' && data[0] != '{' {
		var err error
		if data, err = toJSON(data); err != nil {
			return nil, fmt.Errorf("is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
	}
	if err := whole(data); err != nil {
		return nil, err
	}
	if data[0] == '[' {
		return readInspect(data)
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(data, &keys) != nil {
		return nil, errors.New("is neither JSON nor YAML of networks: must be what docker network inspect or docker compose config printed")
	}
	if keys["IPAM"] != nil || keys["Driver"] != nil {
		return readInspect([]byte("[" + string(data) + "]"))
	}
	if keys["networks"] == nil && keys["services"] == nil {
		return nil, errors.New("has no networks: must be what docker network inspect or docker compose config printed")
	}
	return readCompose(data, project)
}

// whole tells where JSON ends or breaks that is no whole value.
func whole(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	var v json.RawMessage
	err := d.Decode(&v)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("is cut: the JSON ends after %d bytes, inside a value", len(data))
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("is no JSON: at byte %d: %w", syntax.Offset, err)
	}
	if err == nil && len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		err = fmt.Errorf("has more behind the JSON, at byte %d", d.InputOffset())
	}
	return err
}

// A text is a string that may be written as a number or as true; null is "".
type text string

// UnmarshalJSON reads a scalar.
func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	switch {
	case string(data) == "null":
	case data[0] == '"':
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
	case data[0] == '{' || data[0] == '[':
		return errors.New("must be a string, a number, true or false")
	default:
		s = string(data)
	}
	*t = text(s)
	return nil
}

// A truth is true or false, also written as a string, or not told.
type truth struct{ is *bool }

// UnmarshalJSON reads a scalar.
func (b *truth) UnmarshalJSON(data []byte) error {
	var t text
	if err := t.UnmarshalJSON(data); err != nil || t == "" {
		return err
	}
	v, err := strconv.ParseBool(string(t))
	if err != nil {
		return fmt.Errorf("%q must be true or false", string(t))
	}
	b.is = &v
	return nil
}

func (b truth) set() bool { return b.is != nil && *b.is }

// texts are strings by name.
func texts(in map[string]text) map[string]string {
	out := map[string]string{}
	for k, v := range in {
		out[k] = string(v)
	}
	return out
}

// A subnet is one as Docker and Compose write it.
type subnet struct {
	subnet, ipRange, gateway string
	aux                      map[string]string
}

// setSubnets gives a network its subnets. Old versions of Docker write a gateway with the
// length of the subnet.
func (n *Network) setSubnets(list []subnet) error {
	var raw []ipam.RawSubnet
	for _, s := range list {
		if s.subnet == "" {
			continue // a gateway alone: Docker chose the subnet
		}
		gateway, _, _ := strings.Cut(s.gateway, "/")
		raw = append(raw, ipam.RawSubnet{Subnet: s.subnet, IPRange: s.ipRange, Gateway: gateway, AuxAddresses: s.aux})
	}
	if err := n.SetSubnets(raw); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	return nil
}

// setFamilies says which families the network has. Docker tells of every network; what the
// subnets say is not said again.
func (n *Network) setFamilies(ipv4, ipv6 *bool) {
	if ipv4 != nil && !*ipv4 {
		n.IPv4 = ipv4
	}
	has6 := slices.ContainsFunc(n.Subnets, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Addr().Is6()
	})
	if ipv6 != nil && *ipv6 && !has6 {
		n.IPv6 = ipv6
	}
}

// sorted puts configuration networks before those that need them.
func (s *Source) sorted() *Source {
	slices.SortStableFunc(s.Networks, func(a, b Network) int {
		return order(a) - order(b)
	})
	return s
}

func order(n Network) int {
	if n.ConfigOnly {
		return 0
	}
	return 1
}
