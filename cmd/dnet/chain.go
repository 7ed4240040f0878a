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

	"dcni/pkg/network"
	"dcni/pkg/records"
)

// pluginExec executes each plugin in a process group of its own: ^C at the
// terminal must not end a plugin while it cleans up.
type pluginExec struct {
	*version.PluginDecoder
	stderr *os.File
}

// newCNI returns what runs plugins. libcni keeps its own files in cacheDir.
func (a *app) newCNI(path []string, cacheDir string) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(path, cacheDir, pluginExec{&version.PluginDecoder{}, a.stderr})
}

// FindInPath finds a plugin.
func (pluginExec) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// ExecPlugin runs a plugin. The error is the one that the plugin prints on stdout.
func (p pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stderr = environ, bytes.NewReader(stdin), p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	printed := &types.Error{}
	if json.Unmarshal(out, printed) != nil {
		printed.Msg = fmt.Sprintf("%s: %v: %s", filepath.Base(path), err, bytes.TrimSpace(out))
	}
	return nil, printed
}

// checkInstalled returns an error if a plugin of a network is missing. Without
// all plugins an attachment could be added and not deleted, as with a name that makes
// the name of libcni's file too long.
func checkInstalled(n Network, path []string) error {
	if err := network.CheckLength(n.Name); err != nil {
		return err
	}
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
		if t := plugin.IPAM.Type; t != "" && t != network.IPAMCluster { // which is no program
			types = append(types, t)
		}
		for _, t := range types {
			if _, err := invoke.FindInPath(t, path); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

// chainOf returns an attachment of a container in libcni's terms. libcni's own
// files are in a folder that is removed with the attachment's record.
func (a *app) chainOf(folder, id string, at records.Attachment, netns string) (*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := libcni.NetworkConfFromBytes(at.Conf)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("network %s: %w", at.Network, err)
	}
	return a.newCNI(at.Path, folder), list, &libcni.RuntimeConf{
		ContainerID: id, NetNS: netns, IfName: at.IfName, Args: at.Args, CapabilityArgs: at.Values,
	}, nil
}

// attach runs a network's plugins with ADD, for a container of dnet's.
func (a *app) attach(c *records.Container, at records.Attachment, netns string) (*types100.Result, error) {
	result, err := a.add(a.store.ContainerDir(c.ID), c.ID, at, netns)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(result)
}

// add runs a network's plugins with ADD.
func (a *app) add(folder, id string, at records.Attachment, netns string) (types.Result, error) {
	cni, list, rt, err := a.chainOf(folder, id, at, netns)
	if err != nil {
		return nil, err
	}
	result, err := cni.AddNetworkList(context.Background(), list, rt)
	if err != nil {
		return nil, chainError(at.Network, err)
	}
	return result, nil
}

// detach runs the plugins of all networks with DEL, the last network first. It
// goes on past errors.
func (a *app) detach(c *records.Container, netns string) error {
	var errs []error
	for i := len(c.Networks) - 1; i >= 0; i-- {
		errs = append(errs, a.detachOne(c, c.Networks[i], netns))
	}
	return errors.Join(errs...)
}

// detachOne runs the plugins of one network with DEL. If the container never ran,
// detachOne skips a plugin that does not know the configuration's version: that
// plugin refused ADD as well, and would refuse DEL for ever.
func (a *app) detachOne(c *records.Container, at records.Attachment, netns string) error {
	cni, list, rt, err := a.chainOf(a.store.ContainerDir(c.ID), c.ID, at, netns)
	if err == nil {
		err = a.store.CheckResults(c.ID)
	}
	if err == nil {
		err = cni.DelNetworkList(context.Background(), list, rt)
		for c.Stage == records.Created && foreignVersion(err) && len(list.Plugins) > 0 {
			list.Plugins = list.Plugins[:len(list.Plugins)-1]
			err = cni.DelNetworkList(context.Background(), list, rt)
		}
	}
	if err != nil {
		return chainError(at.Network, err)
	}
	return nil
}

// foreignVersion reports whether a plugin does not know a configuration's
// version.
func foreignVersion(err error) bool {
	var printed *types.Error
	return errors.As(err, &printed) && printed.Code == types.ErrIncompatibleCNIVersion
}

// chainError returns a plugin's own error. libcni's words around it say only
// where in the chain libcni was.
func chainError(name string, err error) error {
	var printed *types.Error
	if !errors.As(err, &printed) {
		return fmt.Errorf("network %s: %w", name, err)
	}
	out := *printed
	out.Details = ""
	if printed.Details != "" {
		out.Msg += ": " + printed.Details
	}
	out.Msg = "network " + name + ": " + strings.TrimSpace(out.Msg)
	return &out
}
