package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A conflist is what this program reads of a network's configuration.
type conflist struct {
	Name    string `json:"name"`
	Plugins []struct {
		Type string `json:"type"`
	} `json:"plugins"`
}

// install puts the plugins on the node and then the network's file, by which the node gets ready. Each file
// takes the old one's place in one step: a runtime may read it, or run it, at any moment. A configuration that
// the plugins refuse is an error before anything is written.
func (n *node) install() error {
	data, err := os.ReadFile(n.network)
	if err != nil {
		return err
	}
	if data, err = n.fill(data); err != nil {
		return err
	}
	if err := n.check(data); err != nil {
		return fmt.Errorf("%s: %w", n.network, err)
	}
	files, err := os.ReadDir(n.from)
	if err != nil {
		return err
	}
	// Links come after the program that they lead to.
	for _, links := range []bool{false, true} {
		for _, f := range files {
			if (f.Type() == fs.ModeSymlink) != links {
				continue
			}
			if err := replace(filepath.Join(n.bin, f.Name()), filepath.Join(n.from, f.Name()), links); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(n.out, "plugins are in %s\n", n.bin)
	if old, err := os.ReadFile(n.conf); err == nil && bytes.Equal(old, data) {
		fmt.Fprintf(n.out, "%s stays as it is\n", n.conf)
		return nil
	}
	if err := writeFile(n.conf, data, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(n.out, "%s is written\n", n.conf)
	return nil
}

// check has dcni's first plugin of the network read its configuration.
func (n *node) check(data []byte) error {
	if filepath.Ext(n.conf) != ".conflist" {
		return fmt.Errorf("--conf %s: must end in .conflist", n.conf)
	}
	var list conflist
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, p := range list.Plugins {
		path := filepath.Join(n.from, p.Type)
		if _, err := os.Lstat(path); err != nil || p.Type == "" || strings.Contains(p.Type, "/") {
			continue // another suite's, which is on the node or is not
		}
		cmd := exec.Command(path, "plan")
		cmd.Stdin = bytes.NewReader(data)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", p.Type, err, bytes.TrimSpace(out))
		}
		return nil
	}
	return errors.New("no plugin of dcni's is in it")
}

// replace puts a copy of a file, or of a link, in another one's place.
func replace(to, from string, link bool) error {
	if !link {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return writeFile(to, data, 0o755)
	}
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	temp := temporary(to)
	if err := errors.Join(os.RemoveAll(temp), os.Symlink(target, temp)); err != nil {
		return err
	}
	return os.Rename(temp, to)
}

// temporary is a name beside a file's, so that it is of the same file system, that no runtime looks at: it has no
// ending of a network's file.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// writeFile replaces a file whole, once what is in it is on the disk.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temp := temporary(path)
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}
