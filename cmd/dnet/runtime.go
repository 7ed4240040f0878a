package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"

	"dcni/pkg/host"
	"dcni/pkg/records"
)

// pluginDir is where runtimes look for plugins.
const pluginDir = "/opt/cni/bin"

// pluginPath returns where plugins are: CNI_PATH if it is set, else the usual
// place, and beside dnet.
func pluginPath() []string {
	if path := os.Getenv("CNI_PATH"); path != "" {
		return filepath.SplitList(path)
	}
	dirs := []string{pluginDir}
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	return dirs
}

// reap detaches those whose namespace is gone, or whose ADD or DEL died: nobody
// else will.
func (a *app) reap(t *target) error {
	list, err := a.store.List(t.name)
	if err != nil {
		return err
	}
	for _, r := range list {
		if !a.dead(r) {
			continue
		}
		if err := detach(t.conf, r); err != nil {
			return fmt.Errorf("detach %s, whose sandbox is gone: %w", r.Attachment, err)
		}
	}
	return nil
}

// dead reports whether an attachment is nobody's any more. While somebody is at
// work on it he holds its lock, and what it says is what he left when he let go.
func (a *app) dead(r *records.Record) bool {
	lock, free, err := a.store.TryLockAttachment(r.Attachment)
	if err != nil || !free {
		return false
	}
	defer lock.Unlock()
	now, err := a.store.Get(r.Attachment, r.Plugin)
	return err == nil && (now.State != records.Up || !host.Lives(now.NetNS, now.Cookie))
}

// detach has the plugins of a network's file delete an attachment, or where the
// file is gone, the plugin by what it recorded.
func detach(conf []byte, r *records.Record) error {
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
	runtime := libcni.NewCNIConfig(pluginPath(), nil)
	return runtime.DelNetworkList(context.Background(), list, &libcni.RuntimeConf{ContainerID: r.Container, IfName: r.IfName})
}

// listOf makes a list of a recorded configuration.
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
