package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"dcni/pkg/records"
)

// plugins executes plugins each in a process group of its own: ^C at the
// terminal is not for them, least of all while they clean up.
type plugins struct{ *version.PluginDecoder }

// FindInPath finds a plugin.
func (plugins) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin runs a plugin; its error is what it answers on stdout.
func (plugins) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stderr = environ, bytes.NewReader(stdin), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	said := &types.Error{}
	if json.Unmarshal(out, said) != nil {
		said.Msg = fmt.Sprintf("%s: %v: %s", filepath.Base(path), err, bytes.TrimSpace(out))
	}
	return nil, said
}

// installed makes sure that all plugins of a network are there: what can't be
// deleted is not to be added.
func installed(n Network, path []string) error {
	for _, conf := range n.Plugins {
		var plugin struct {
			Type string `json:"type"`
			IPAM struct {
				Type string `json:"type"`
			} `json:"ipam"`
		}
		if err := json.Unmarshal(conf, &plugin); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		types := []string{plugin.Type}
		if plugin.IPAM.Type != "" {
			types = append(types, plugin.IPAM.Type)
		}
		for _, t := range types {
			if _, err := invoke.FindInPath(t, path); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

// chain readies an attachment of a container for libcni, whose own notes go to
// the container's folder, and with it.
func (a *app) chain(c *records.Container, at records.Attachment, netns string) (*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := libcni.NetworkConfFromBytes(at.Conf)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("network %s: %w", at.Network, err)
	}
	return libcni.NewCNIConfigWithCacheDir(at.Path, a.store.ContainerDir(c.ID), plugins{&version.PluginDecoder{}}), list, &libcni.RuntimeConf{
		ContainerID: c.ID, NetNS: netns, IfName: at.IfName, Args: at.Args, CapabilityArgs: at.Values,
	}, nil
}

// attach runs a network's plugins with ADD.
func (a *app) attach(c *records.Container, at records.Attachment, netns string) (*types100.Result, error) {
	cni, list, rt, err := a.chain(c, at, netns)
	if err != nil {
		return nil, err
	}
	result, err := cni.AddNetworkList(context.Background(), list, rt)
	if err != nil {
		return nil, chainError(at, err)
	}
	return types100.NewResultFromResult(result)
}

// detach runs the plugins of all networks with DEL, the last first. It goes on
// past errors.
func (a *app) detach(c *records.Container, netns string) error {
	var errs []error
	for i := len(c.Networks) - 1; i >= 0; i-- {
		errs = append(errs, a.detachOne(c, c.Networks[i], netns))
	}
	return errors.Join(errs...)
}

// detachOne runs the plugins of one network with DEL. A plugin that does not know
// the version of the configuration has done nothing for a container that never
// ran, and is passed over: it would refuse for ever.
func (a *app) detachOne(c *records.Container, at records.Attachment, netns string) error {
	cni, list, rt, err := a.chain(c, at, netns)
	if err == nil {
		err = cni.DelNetworkList(context.Background(), list, rt)
		for c.Stage == records.Created && foreignVersion(err) && len(list.Plugins) > 0 {
			list.Plugins = list.Plugins[:len(list.Plugins)-1]
			err = cni.DelNetworkList(context.Background(), list, rt)
		}
	}
	if err != nil {
		return chainError(at, err)
	}
	return nil
}

// foreignVersion reports whether a plugin said that it does not know a
// configuration's version.
func foreignVersion(err error) bool {
	var said *types.Error
	return errors.As(err, &said) && said.Code == types.ErrIncompatibleCNIVersion
}

// chainError is what a plugin said, in the place of where libcni was when it
// did.
func chainError(at records.Attachment, err error) error {
	var said *types.Error
	if !errors.As(err, &said) {
		return fmt.Errorf("network %s: %w", at.Network, err)
	}
	words := *said
	words.Details = ""
	if said.Details != "" {
		words.Msg += ": " + said.Details
	}
	words.Msg = "network " + at.Network + ": " + strings.TrimSpace(words.Msg)
	return &words
}
