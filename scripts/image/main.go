// Command image writes the container image of a Kubernetes node from folders, one for each
// architecture, as an OCI layout: one index of the architectures under the name of the version. Two
// runs with the same folders and flags give the same digests: all times are -created, all
// owners root.
//
//	image -out DIR -name NAME -version VERSION -revision COMMIT -created SECONDS [-entrypoint PROGRAM] ARCH=FOLDER...
//
// It prints the index's digest, by which a registry has the image.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An image is what the command line says.
type image struct {
	out, name, version, revision string
	entrypoint                   string            // the program that the image starts
	created                      int64             // seconds since 1970
	trees                        map[string]string // folders by architecture, in GOARCH's words
	order                        []string          // architectures, as the command line has them
}

func main() {
	i, err := parse(os.Args[1:])
	if err == nil {
		var digest v1.Hash
		if digest, err = i.write(); err == nil {
			fmt.Println(digest)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "image:", err)
	os.Exit(1)
}

func parse(args []string) (*image, error) {
	i := &image{trees: map[string]string{}}
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.StringVar(&i.out, "out", "", "folder to write, which must not be there")
	f.StringVar(&i.name, "name", "", "the image's `name`, without a tag")
	f.StringVar(&i.version, "version", "", "the tag")
	f.StringVar(&i.revision, "revision", "", "the commit")
	f.StringVar(&i.entrypoint, "entrypoint", "/usr/bin/dcni-node", "the `program` that it starts")
	f.Int64Var(&i.created, "created", 0, "time of everything, in `seconds` since 1970")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, arg := range f.Args() {
		arch, tree, ok := strings.Cut(arg, "=")
		if !ok || i.trees[arch] != "" {
			return nil, fmt.Errorf("%q: must be ARCH=FOLDER, once for each architecture", arg)
		}
		i.trees[arch] = tree
		i.order = append(i.order, arch)
	}
	if i.out == "" || i.name == "" || i.version == "" || len(i.order) == 0 {
		return nil, errors.New("-out, -name, -version and a folder are needed")
	}
	return i, nil
}

// write writes the layout, and returns the digest of its index.
func (i *image) write() (v1.Hash, error) {
	if _, err := os.Stat(i.out); err == nil {
		return v1.Hash{}, fmt.Errorf("%s is there already", i.out)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range i.order {
		one, err := i.build(arch)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        one,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	index = mutate.Annotations(index, i.labels()).(v1.ImageIndex)
	to, err := layout.Write(i.out, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	err = to.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": i.version,
		"io.containerd.image.name":          i.name + ":" + i.version, // by which ctr and podman name what they load
	}))
	if err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// labels are what the OCI's specification has words for.
func (i *image) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "dcni",
		"org.opencontainers.image.description": "Docker's network modes as CNI plugins, with dnetd, for the nodes of a Kubernetes cluster",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     i.version,
		"org.opencontainers.image.revision":    i.revision,
		"org.opencontainers.image.created":     i.time().Format(time.RFC3339),
	}
}

func (i *image) time() time.Time { return time.Unix(i.created, 0).UTC() }

// build returns the image of one architecture, of one layer.
func (i *image) build(arch string) (v1.Image, error) {
	files, err := i.archive(i.trees[arch])
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	one, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: i.time()}, CreatedBy: "make image",
	}})
	if err != nil {
		return nil, err
	}
	config, err := one.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: i.time()}
	config.Config = v1.Config{
		Entrypoint: []string{i.entrypoint},
		Env:        []string{"PATH=/usr/bin:/bin"},
		Labels:     i.labels(),
	}
	return mutate.ConfigFile(one, config)
}

// archive returns the tar archive of a folder: directories, regular files and symbolic links, by name.
func (i *image) archive(tree string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == tree {
			return err
		}
		return i.add(w, tree, path, d)
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// add adds one file.
func (i *image) add(w *tar.Writer, tree, path string, d fs.DirEntry) error {
	name, err := filepath.Rel(tree, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	// Of modes, only that a file is a program counts: the rest is the umask's of who built.
	h := &tar.Header{Name: filepath.ToSlash(name), ModTime: i.time(), Format: tar.FormatPAX, Mode: 0o644}
	switch {
	case info.IsDir():
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, h.Name+"/"
	case info.Mode().Type() == fs.ModeSymlink:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		h.Linkname, err = os.Readlink(path)
	case info.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if info.Mode()&0o111 != 0 {
			h.Mode = 0o755
		}
	default:
		err = fmt.Errorf("%s is no file, folder or link", path)
	}
	if err != nil {
		return err
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}
