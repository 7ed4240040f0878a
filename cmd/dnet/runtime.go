package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"

	"dcni/pkg/mode"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// pluginDir is where runtimes look for plugins.
const pluginDir = "/opt/cni/bin"

// pluginPath returns where plugins are: CNI_PATH if it is set, else the usual
// directory and dnet's own.
func (a *app) pluginPath() []string {
	if path := a.getenv("CNI_PATH"); path != "" {
		return filepath.SplitList(path)
	}
	dirs := []string{pluginDir}
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	return dirs
}

// draft reads what a network is to be, with all plugins that are installed.
func (a *app) draft(o *catalog.Options) (*catalog.Draft, error) {
	o.Foreign, o.Where = a.foreignVersions, " in "+strings.Join(a.pluginPath(), ", ")
	return o.Draft(mode.All)
}

// noPlugin says that a word is neither a driver nor a plugin of the plugin path, in Docker's
// words, and which one may be meant.
func noPlugin(word string, path []string) error {
	var known []string
	for _, p := range mode.All {
		if p.Driver != nil {
			known = append(known, p.Driver.Name())
		}
	}
	for _, dir := range path {
		files, _ := os.ReadDir(dir) // one that is not there has none
		for _, f := range files {
			known = append(known, f.Name())
		}
	}
	meant := ""
	if near := network.Nearest(word, known); near != "" && near != word {
		meant = fmt.Sprintf(": is %q meant?", near)
	}
	return network.Refuse(network.NotFound, "plugin %q not found%s", word, meant)
}

// foreignVersions returns the CNI versions that a plugin of the plugin path knows.
func (a *app) foreignVersions(cniType string) ([]string, error) {
	path := a.pluginPath()
	if cniType == "" || strings.ContainsAny(cniType, "/\\") {
		return nil, noPlugin(cniType, path)
	}
	if _, err := invoke.FindInPath(cniType, path); err != nil {
		return nil, noPlugin(cniType, path)
	}
	info, err := a.newCNI(path, "").GetVersionInfo(context.Background(), cniType)
	if err != nil {
		return nil, fmt.Errorf("plugin %s does not tell which CNI versions it knows: %w", cniType, err)
	}
	return info.SupportedVersions(), nil
}

// reap detaches a network's attachments whose namespace is gone, or whose ADD or
// DEL died. No runtime will.
func (a *app) reap(n *removal) error {
	list, err := a.store.List(n.name)
	if err != nil {
		return err
	}
	for _, r := range list {
		if !a.orphaned(r) {
			continue
		}
		if err := a.deleteOrphan(n.conf, r); err != nil {
			return fmt.Errorf("detach %s, whose sandbox is gone: %w", r.Attachment, err)
		}
	}
	return nil
}

// orphaned reports whether no runtime will detach an attachment. A plugin at work
// holds the attachment's lock, so the record is read again under the lock.
func (a *app) orphaned(r *records.Record) bool {
	lock, free, err := a.store.TryLockAttachment(r.Attachment)
	if err != nil || !free {
		return false
	}
	defer lock.Unlock()
	now, err := a.store.Get(r.Attachment, r.Plugin)
	// Whether a lost attachment's sandbox is there can't be told here; dnetd can.
	return err == nil && now.State != records.Lost && (now.State != records.Up || !netns.Alive(now.NetNS, now.Cookie))
}

// deleteOrphan runs DEL of the plugins in a network's file. If the file is gone,
// it runs DEL of the recorded plugin with the recorded configuration.
func (a *app) deleteOrphan(conf []byte, r *records.Record) error {
	if conf == nil {
		var err error
		if conf, err = listOf(r); err != nil {
			return err
		}
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	if err != nil {
		return err
	}
	return a.newCNI(a.pluginPath(), "").DelNetworkList(context.Background(), list,
		&libcni.RuntimeConf{ContainerID: r.Container, IfName: r.IfName})
}

// listOf returns a configuration list with the recorded configuration in it.
func listOf(r *records.Record) ([]byte, error) {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(r.Config, &head); err != nil {
		return nil, errors.Join(fmt.Errorf("record of %s", r.Attachment), err)
	}
	return json.Marshal(map[string]any{
		"cniVersion": head.CNIVersion, "name": r.Attachment.Network, "plugins": []json.RawMessage{r.Config},
	})
}
