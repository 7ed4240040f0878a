package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// tree makes a folder as the build does.
func tree(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "opt/cni/bin")
	err := errors.Join(
		os.MkdirAll(bin, 0o700),
		os.WriteFile(filepath.Join(bin, "dcni"), []byte(program), 0o700),
		os.Symlink("dcni", filepath.Join(bin, "dbridge")),
		os.WriteFile(filepath.Join(dir, "copyright"), []byte("Apache-2.0\n"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// build builds an image from the command line, and returns its folder and digest.
func build(t *testing.T) (string, v1.Hash) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "oci")
	i, err := parse([]string{
		"-out", out, "-name", "dcni.invalid/dcni", "-version", "1.2.3", "-revision", "abc", "-created", "1700000000",
		"amd64=" + tree(t, "for amd64"), "arm64=" + tree(t, "for arm64"),
	})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := i.write()
	if err != nil {
		t.Fatal(err)
	}
	return out, digest
}

// TestImage: the layout is whole (each blob has its digest and size, each layer what the configuration says), two builds
// are the same, and it is named and labelled.
func TestImage(t *testing.T) {
	out, digest := build(t)
	if _, again := build(t); again != digest {
		t.Errorf("digests are %s and %s", digest, again)
	}
	top, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(top); err != nil {
		t.Error(err)
	}
	list, err := top.IndexManifest()
	if err != nil || len(list.Manifests) != 1 || list.Manifests[0].Digest != digest {
		t.Fatalf("the layout names %+v, %v", list, err)
	}
	if a := list.Manifests[0].Annotations; a["io.containerd.image.name"] != "dcni.invalid/dcni:1.2.3" || a["org.opencontainers.image.ref.name"] != "1.2.3" {
		t.Errorf("annotations %v", a)
	}
	index, err := top.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	list, err = index.IndexManifest()
	if err != nil || len(list.Manifests) != 2 || list.Annotations["org.opencontainers.image.version"] != "1.2.3" {
		t.Fatalf("the index is %+v, %v", list, err)
	}
	for n, arch := range []string{"amd64", "arm64"} {
		if p := list.Manifests[n].Platform; p == nil || p.Architecture != arch || p.OS != "linux" {
			t.Errorf("%d: platform %v", n, p)
		}
		one, err := index.Image(list.Manifests[n].Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, arch, one)
	}
}

func checkImage(t *testing.T, arch string, one v1.Image) {
	t.Helper()
	config, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	const created = "2023-11-14T22:13:20Z"
	labels := config.Config.Labels
	if config.Architecture != arch || fmt.Sprint(config.Config.Entrypoint) != "[/usr/bin/dcni-node]" || config.Config.User != "" ||
		labels["org.opencontainers.image.revision"] != "abc" || labels["org.opencontainers.image.created"] != created {
		text, _ := json.Marshal(config)
		t.Errorf("%s: %s", arch, text)
	}
	layers, err := one.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(len(layers), err)
	}
	files, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	want := strings.Join([]string{
		"-rw-r--r-- copyright 11 ",
		"drwxr-xr-x opt/ 0 ",
		"drwxr-xr-x opt/cni/ 0 ",
		"drwxr-xr-x opt/cni/bin/ 0 ",
		"Lrwxrwxrwx opt/cni/bin/dbridge 0 dcni",
		"-rwxr-xr-x opt/cni/bin/dcni 9 ",
	}, "\n")
	var got []string
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %d %s", h.FileInfo().Mode(), h.Name, h.Size, h.Linkname))
		if h.ModTime.UTC().Format("2006-01-02T15:04:05Z") != created || h.Uid+h.Gid != 0 || h.Uname+h.Gname != "" {
			t.Errorf("%s: %+v", arch, h)
		}
	}
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("%s: the layer has\n%s\nwant\n%s", arch, text, want)
	}
}

// TestRefused: a line that is wrong is an error, and a folder that is there is not written over.
func TestRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"-out", "x", "-name", "n", "-version", "1"}, {"amd64"}, {"amd64=a", "amd64=b"}} {
		if i, err := parse(args); err == nil {
			t.Errorf("%q: %+v", args, i)
		}
	}
	i := &image{out: t.TempDir(), order: []string{"amd64"}, trees: map[string]string{"amd64": "."}}
	if _, err := i.write(); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Error(err)
	}
}
