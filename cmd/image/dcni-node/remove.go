package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// again is how long a removal waits for pods between two tries.
const again = 5 * time.Second

// remove removes the network, as soon as no pod is on it any more, and then the plugins, unless another network
// has one of them.
func (n *node) remove(ctx context.Context) error {
	name, err := n.installed()
	if err != nil {
		return err
	}
	for name != "" {
		out, err := exec.CommandContext(ctx, "/proc/self/exe", "host", "dnet", "rm", "--force", name).CombinedOutput()
		if err == nil {
			break
		}
		fmt.Fprintf(n.out, "not yet: %s\n", strings.TrimSpace(string(out)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again):
		}
	}
	// What dnet rm knows nothing of: a file of a network that is another one's as well.
	if err := remove(n.conf); err != nil {
		return err
	}
	fmt.Fprintf(n.out, "the network is removed\n")
	return n.removePlugins()
}

// installed returns the name of the network; "" where its file is gone.
func (n *node) installed() (string, error) {
	list, err := readConflist(n.conf)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && list.Name == "" {
		err = fmt.Errorf("%s: name: must be there", n.conf)
	}
	return list.Name, err
}

func readConflist(path string) (conflist, error) {
	var list conflist
	data, err := os.ReadFile(path)
	if err != nil {
		return list, err
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return list, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// removePlugins removes what install has put among the plugins.
func (n *node) removePlugins() error {
	files, err := os.ReadDir(n.from)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, f := range files {
		names[f.Name()] = true
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(n.conf), "*.conf*"))
	if err != nil {
		return err
	}
	for _, path := range others {
		list, err := readConflist(path)
		if err != nil {
			return fmt.Errorf("plugins stay: %w", err)
		}
		for _, p := range list.Plugins {
			if names[p.Type] {
				fmt.Fprintf(n.out, "plugins stay: network %q of %s has %s\n", list.Name, path, p.Type)
				return nil
			}
		}
	}
	for name := range names {
		path := filepath.Join(n.bin, name)
		if err := errors.Join(remove(path), remove(temporary(path))); err != nil {
			return err
		}
	}
	fmt.Fprintf(n.out, "the plugins are removed\n")
	return nil
}

// remove removes a file that may be gone.
func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
