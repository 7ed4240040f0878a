package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/mode"
)

// TestMain has this program be dbridge where a test's plugin folder says so.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_PLUGIN") != "" {
		os.Args[0] = "/opt/cni/bin/dbridge"
		cni.MainAll(mode.All)
	}
	os.Exit(m.Run())
}

const network = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.9.0.0/24"}}, {"type": "tuning"}]}`

// testNode returns a node with empty folders, and an image of one plugin and its link.
func testNode(t *testing.T) (*node, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	out := &bytes.Buffer{}
	n := &node{
		bin: filepath.Join(dir, "bin"), conf: filepath.Join(dir, "net.d/10-dcni.conflist"),
		network: filepath.Join(dir, "network"), from: filepath.Join(dir, "image"), out: out,
	}
	for _, d := range []string{n.bin, filepath.Dir(n.conf), n.from} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(n.from, "dcni"), fmt.Sprintf("#!/bin/sh\nTEST_PLUGIN=1 exec '%s' \"$@\"\n", self))
	if err := os.Chmod(filepath.Join(n.from, "dcni"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dcni", filepath.Join(n.from, "dbridge")); err != nil {
		t.Fatal(err)
	}
	write(t, n.network, network)
	return n, out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// list returns the names in a folder, each after a space.
func list(t *testing.T, dir string) (names string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names += " " + f.Name()
	}
	return names
}

// TestInstall: what is there is replaced, what a killed installation left does no harm, and a network's file that
// stays the same is not written again.
func TestInstall(t *testing.T) {
	n, out := testNode(t)
	write(t, filepath.Join(n.bin, "dcni"), "old")
	write(t, filepath.Join(n.bin, "dbridge"), "an own program, as make install has it")
	write(t, temporary(filepath.Join(n.bin, "dcni")), "a part")
	write(t, temporary(filepath.Join(n.bin, "dbridge")), "a part")
	write(t, temporary(n.conf), "a part")
	busy, err := os.Open(filepath.Join(n.bin, "dcni")) // a runtime has the old one
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := n.install(); err != nil {
		t.Fatal(err)
	}
	if got := list(t, n.bin); got != " dbridge dcni" {
		t.Errorf("bin has%s", got)
	}
	if got := list(t, filepath.Dir(n.conf)); got != " 10-dcni.conflist" {
		t.Errorf("the networks' folder has%s", got)
	}
	if target, err := os.Readlink(filepath.Join(n.bin, "dbridge")); err != nil || target != "dcni" {
		t.Errorf("dbridge leads to %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(n.bin, "dbridge")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the plugin's mode: %v, %v", info, err)
	}
	if info, err := os.Stat(n.conf); err != nil || info.Mode().Perm() != 0o644 || read(t, n.conf) != network {
		t.Errorf("the network's file: %v, %v", info, err)
	}
	old := make([]byte, 8)
	if k, _ := busy.Read(old); string(old[:k]) != "old" {
		t.Errorf("the old program was changed in its place: %q", old[:k])
	}
	first, _ := os.Stat(n.conf)
	out.Reset()
	if err := n.install(); err != nil {
		t.Fatal(err)
	}
	if second, err := os.Stat(n.conf); err != nil || !os.SameFile(first, second) || !strings.Contains(out.String(), "stays as it is") {
		t.Errorf("the same file was written again: %v: %s", err, out)
	}
	write(t, n.network, strings.Replace(network, "10.9", "10.8", 1))
	if err := n.install(); err != nil || !strings.Contains(read(t, n.conf), "10.8.") {
		t.Errorf("a changed one was not: %v", err)
	}
}

// TestInstallRefuses: what no plugin takes is an error that says so, and changes nothing.
func TestInstallRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "unexpected end of JSON input"},
		{`{"name": "pods", "plugins": [{"type": "bridge"}, {"type": ""}, {"type": "../image/dbridge"}]}`, "no plugin of dcni's is in it"},
		{strings.Replace(network, `"ipam"`, `"icc": 7, "ipam"`, 1), "dbridge: exit status 1: "},
	} {
		n, _ := testNode(t)
		write(t, n.network, test.text)
		err := n.install()
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), n.network) {
			t.Errorf("%q: %v, want %s", test.text, err, test.want)
		}
		if got := list(t, n.bin) + list(t, filepath.Dir(n.conf)); got != "" {
			t.Errorf("%q: there is%s", test.text, got)
		}
	}
	n, _ := testNode(t)
	n.conf = strings.TrimSuffix(n.conf, "list")
	if err := n.install(); err == nil || !strings.Contains(err.Error(), "must end in .conflist") {
		t.Error(err)
	}
}

// TestRemovePlugins: they stay as long as another network has one of them.
func TestRemovePlugins(t *testing.T) {
	n, out := testNode(t)
	if err := n.install(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(n.bin, "loopback"), "another suite's")
	if err := remove(n.conf); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(n.conf), "20-web.conflist")
	write(t, other, strings.Replace(network, "pods", "web", 1))
	if err := n.remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := list(t, n.bin); got != " dbridge dcni loopback" || !strings.Contains(out.String(), `plugins stay: network "web" of `+other+" has dbridge") {
		t.Errorf("bin has%s: %s", got, out)
	}
	write(t, other, `{"plugins": [`)
	if err := n.remove(context.Background()); err == nil || !strings.Contains(err.Error(), other) {
		t.Error(err)
	}
	if err := remove(other); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is there
		if err := n.remove(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := list(t, n.bin); got != " loopback" {
			t.Errorf("bin has%s", got)
		}
	}
}

// TestCommandLine: a line that is wrong says what is right.
func TestCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"":                            "say install, serve",
		"start":                       `"start": say install`,
		"install --bin=/b --conf=/c":  "install wants all of its flags",
		"remove --bin=/b":             "remove wants all of its flags",
		"remove --bin=/b --conf=/c d": `unknown argument "d"`,
		"remove --bin=/b --network=c": "flag provided but not defined: -network",
		"host":                        "host wants a program of the image",
		"host no-such-program":        "executable file not found",
	} {
		var out bytes.Buffer
		if err := run(context.Background(), strings.Fields(line), &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
