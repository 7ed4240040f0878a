package cni

import (
	"bytes"
	"encoding/json"
	"fmt"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
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

// parseResult reads a result of a version.
func parseResult(raw []byte, version string) (*types100.Result, error) {
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
