package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// imageName is what containers under test run, and what keeps a pod open.
const imageName = "localhost/busybox:test"

// busybox is Debian's, from busybox-static: one file that needs no other.
const busybox = "/bin/busybox"

// writeImage writes an OCI image archive with busybox and a link for each of
// its commands: no registry is asked. It sleeps when nothing else is said.
func writeImage(path string) error {
	layer, err := busyboxLayer()
	if err != nil {
		return err
	}
	a := archive{files: map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	config := a.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/bin/sleep", "86400"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	manifest := a.json("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
		"layers": []any{a.blob("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	manifest["annotations"] = map[string]string{"io.containerd.image.name": imageName}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	if err != nil {
		return err
	}
	a.files["index.json"] = index
	data, err := tarball(a.files, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// busyboxLayer is the file system of the image.
func busyboxLayer() ([]byte, error) {
	data, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	files := map[string][]byte{"bin/busybox": data, "etc/passwd": []byte("root:x:0:0:root:/:/bin/sh\n")}
	links := map[string]string{}
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			links["bin/"+name] = "busybox"
		}
	}
	return tarball(files, links)
}

// An archive collects the files of an OCI image.
type archive struct{ files map[string][]byte }

// blob adds contents under their digest and returns their descriptor.
func (a archive) blob(mediaType string, data []byte) map[string]any {
	d := digest(data)
	a.files["blobs/"+strings.Replace(d, ":", "/", 1)] = data
	return map[string]any{"mediaType": mediaType, "digest": d, "size": len(data)}
}

func (a archive) json(mediaType string, v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings always marshal
	}
	return a.blob(mediaType, data)
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func tarball(files map[string][]byte, links map[string]string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	for name, target := range links {
		if err := w.WriteHeader(&tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
