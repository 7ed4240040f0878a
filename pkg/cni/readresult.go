package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"dcni/pkg/oncejson"
)

// readResult reads what another plugin printed, or a runtime says that one did.
// The library would panic at a list with null in it, and pass an address that is
// missing on as "<nil>".
func readResult(raw []byte, version string) (*types100.Result, error) {
	if bytes.Contains(raw, []byte("null")) {
		if err := checkLists(raw); err != nil {
			return nil, err
		}
	}
	r, err := parseResult(raw, version)
	if err != nil {
		return nil, err
	}
	for i, ip := range r.IPs {
		if ip.Address.IP == nil {
			return nil, noAddress(i)
		}
	}
	for i, route := range r.Routes {
		if route.Dst.IP == nil {
			return nil, noDst(i)
		}
	}
	return r, nil
}

// parseResult reads a result of a version. The library does, unless it is plain.
func parseResult(raw []byte, version string) (*types100.Result, error) {
	if r, plain := plainResult(raw); plain && r.CNIVersion == version && strings.HasPrefix(version, "1.") {
		r.CNIVersion = types100.ImplementedSpecVersion
		return r, nil
	}
	result, err := create.Create(version, raw)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(result)
}

func noAddress(i int) error { return fmt.Errorf("ips[%d]: must be an object with an address", i) }

func noDst(i int) error { return fmt.Errorf("routes[%d]: must be an object with a dst", i) }

// checkLists looks for null where an object must be.
func checkLists(raw []byte) error {
	var lists struct {
		Interfaces []*struct{}                  `json:"interfaces"`
		IPs        []*struct{ Address *string } `json:"ips"`
		Routes     []*struct{ Dst *string }     `json:"routes"`
	}
	if err := json.Unmarshal(raw, &lists); err != nil {
		return err
	}
	for i, one := range lists.Interfaces {
		if one == nil {
			return fmt.Errorf("interfaces[%d]: must be an object, not null", i)
		}
	}
	for i, one := range lists.IPs {
		if one == nil || one.Address == nil {
			return noAddress(i)
		}
	}
	for i, one := range lists.Routes {
		if one == nil || one.Dst == nil {
			return noDst(i)
		}
	}
	return nil
}

// plainResult reads a result of CNI 1.x with nothing unusual in it, as those of
// dcni's own plugins are. The library decodes by reflection, a value within a value
// within a value: it took a tenth of what dnetd does for an ADD.
func plainResult(raw []byte) (*types100.Result, bool) {
	r := &types100.Result{}
	seen := map[string]bool{}
	plain := oncejson.Members(raw, func(key string, value json.RawMessage) (ok bool) {
		if seen[key] {
			return false
		}
		seen[key] = true
		switch key {
		case "cniVersion":
			r.CNIVersion, ok = oncejson.Text(value)
		case "interfaces":
			r.Interfaces, ok = plainList(value, plainInterface)
		case "ips":
			r.IPs, ok = plainList(value, plainIP)
		case "routes":
			r.Routes, ok = plainList(value, plainRoute)
		case "dns":
			ok = json.Unmarshal(value, &r.DNS) == nil
		}
		return ok
	})
	return r, plain
}

func plainList[T any](raw []byte, read func(raw []byte) (*T, bool)) (list []*T, plain bool) {
	plain = oncejson.Items(raw, func(value json.RawMessage) bool {
		one, ok := read(value)
		list = append(list, one)
		return ok
	})
	return list, plain
}

func plainInterface(raw []byte) (*types100.Interface, bool) {
	i := &types100.Interface{}
	return i, oncejson.Members(raw, func(key string, value json.RawMessage) (ok bool) {
		switch key {
		case "name":
			i.Name, ok = oncejson.Text(value)
		case "mac":
			i.Mac, ok = oncejson.Text(value)
		case "mtu":
			i.Mtu, ok = oncejson.Int(value)
		case "sandbox":
			i.Sandbox, ok = oncejson.Text(value)
		}
		return ok
	})
}

func plainIP(raw []byte) (*types100.IPConfig, bool) {
	ip := &types100.IPConfig{}
	return ip, oncejson.Members(raw, func(key string, value json.RawMessage) (ok bool) {
		switch key {
		case "interface":
			ip.Interface, ok = plainInt(value)
		case "address":
			ip.Address, ok = plainNet(value)
		case "gateway":
			ip.Gateway, ok = plainAddress(value)
		}
		return ok
	})
}

func plainRoute(raw []byte) (*types.Route, bool) {
	r := &types.Route{}
	return r, oncejson.Members(raw, func(key string, value json.RawMessage) (ok bool) {
		switch key {
		case "dst":
			r.Dst, ok = plainNet(value)
		case "gw":
			r.GW, ok = plainAddress(value)
		case "mtu":
			r.MTU, ok = oncejson.Int(value)
		case "advmss":
			r.AdvMSS, ok = oncejson.Int(value)
		case "priority":
			r.Priority, ok = oncejson.Int(value)
		case "table":
			r.Table, ok = plainInt(value)
		case "scope":
			r.Scope, ok = plainInt(value)
		}
		return ok
	})
}

func plainInt(raw []byte) (*int, bool) {
	n, ok := oncejson.Int(raw)
	return &n, ok
}

func plainNet(raw []byte) (net.IPNet, bool) {
	text, ok := oncejson.Text(raw)
	if !ok {
		return net.IPNet{}, false
	}
	n, err := types.ParseCIDR(text)
	if err != nil {
		return net.IPNet{}, false
	}
	return *n, true
}

func plainAddress(raw []byte) (net.IP, bool) {
	text, ok := oncejson.Text(raw)
	ip := net.ParseIP(text)
	return ip, ok && ip != nil
}
