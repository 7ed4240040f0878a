package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dcni/pkg/network"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/places"
)

// DefaultConfDir is where runtimes look for networks, see [places.Conf].
func DefaultConfDir() ConfDir { return ConfDir(places.Conf()) }

// maxConf is the limit of a network's file, in bytes.
const maxConf = 4 << 20

// ConfDir is a directory with a file for each network. All programs that configure
// CNI networks share it.
type ConfDir string

// A ConfFile is one of its files.
type ConfFile struct {
	Path     string
	Modified time.Time
	Data     []byte
	Err      error // it could not be read
}

// List returns the files that runtimes look at, *.conf, *.conflist and *.json,
// by name: where two configure one network, the first counts. A directory that
// is not there has none.
func (d ConfDir) List() ([]ConfFile, error) {
	return d.list(".conf", ".conflist", ".json")
}

// configuration is what the files of configuration networks end with. Runtimes pass such
// files over.
const configuration = ".config-only"

// Configurations returns the files of configuration networks, by name.
func (d ConfDir) Configurations() ([]ConfFile, error) { return d.list(configuration) }

// list returns the files with one of some endings.
func (d ConfDir) list(endings ...string) ([]ConfFile, error) {
	entries, err := os.ReadDir(string(d)) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var files []ConfFile
	for _, e := range entries {
		if !slices.Contains(endings, filepath.Ext(e.Name())) {
			continue
		}
		f := readConf(filepath.Join(string(d), e.Name()))
		if !errors.Is(f.Err, fs.ErrNotExist) { // not removed since the directory was read
			files = append(files, f)
		}
	}
	return files, err
}

func readConf(path string) ConfFile {
	f := ConfFile{Path: path}
	info, err := os.Stat(path)
	if err == nil {
		f.Modified = info.ModTime()
		f.Data, err = disk.ReadLimited(path, 0, maxConf) // it may be a symbolic link
	}
	if unread, is := errors.AsType[*disk.UnreadableError](err); is {
		err = unread.Err // readers name the path
	}
	f.Err = err
	return f
}

// WithSidePlugins returns a network's list as libcni reads it from a .conflist of the directory
// (conf.go, NetworkConfFromFile): behind its own plugins are those of the files NAME/*.conf, by
// name, unless loadOnlyInlinedPlugins is true. libcni keeps only the list's own for DEL. What can't be
// read is returned as it is, and one of these files that can't be read is an error.
func (d ConfDir) WithSidePlugins(list []byte) ([]byte, error) {
	var known struct {
		Name    string `json:"name"`
		Inlined any    `json:"loadOnlyInlinedPlugins"` // true or "true"

		Plugins []json.RawMessage `json:"plugins"`
	}
	if json.Unmarshal(list, &known) != nil || !network.ValidName(known.Name) || strings.EqualFold(fmt.Sprint(known.Inlined), "true") {
		return list, nil //nolint:nilerr // who parses it says what is wrong
	}
	files, err := (d + "/" + ConfDir(known.Name)).list(".conf")
	if err != nil || len(files) == 0 {
		return list, nil //nolint:nilerr // a file of that name, for example
	}
	for _, f := range files {
		var plugin struct {
			Type string `json:"type"`
		}
		if f.Err == nil {
			f.Err = json.Unmarshal(f.Data, &plugin)
		}
		if f.Err == nil && plugin.Type == "" {
			f.Err = errors.New("no type")
		}
		if f.Err != nil {
			return list, fmt.Errorf("%s: %w", f.Path, f.Err)
		}
		known.Plugins = append(known.Plugins, f.Data)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(list, &whole); err != nil {
		return list, err
	}
	if whole["plugins"], err = json.Marshal(known.Plugins); err != nil {
		return list, err
	}
	return json.Marshal(whole)
}

// Configures reports whether a file of the directory configures a network. An
// unreadable directory may.
func (d ConfDir) Configures(name string) bool {
	files, err := d.List()
	return err != nil || slices.ContainsFunc(files, func(f ConfFile) bool { return f.Configures(name) })
}

// Holds reports whether the file at a path still has a list, as [ConfDir.WithSidePlugins] gives it.
func (d ConfDir) Holds(path string, list []byte) bool {
	f := readConf(path)
	if f.Err == nil && filepath.Ext(path) == ".conflist" {
		f.Data, f.Err = d.WithSidePlugins(f.Data)
	}
	return f.Err == nil && bytes.Equal(f.Data, list)
}

// Configured reports whether a file, if it is there, configures a network. One that
// can't be read may.
func Configured(path, name string) bool {
	f := readConf(path)
	return f.Err != nil && !errors.Is(f.Err, fs.ErrNotExist) || f.Err == nil && !json.Valid(f.Data) || f.Configures(name)
}

// Configures reports whether the file configures a network.
func (f ConfFile) Configures(name string) bool {
	var conf struct {
		Name string `json:"name"`
	}
	return f.Err == nil && json.Unmarshal(f.Data, &conf) == nil && conf.Name == name
}

// Path returns the file of a network that dnet makes. The name sorts behind
// 10-...: a runtime that takes the first file for its default network never
// finds it by accident.
func (d ConfDir) Path(name string) string {
	return filepath.Join(string(d), "dcni-"+name+".conflist")
}

// Write puts a network's file there whole: runtimes watch the directory, and
// must not read half a file. The temporary name has an ending that runtimes ignore.
// It is always the same for a network, so a killed writer's file is overwritten by the
// next one, or goes by [Store.SweepConf]. The caller holds the network's lock, so there is one writer: dnet, or
// dclusterd.
func (d ConfDir) Write(name string, data []byte) error { return d.write(name, d.Path(name), data) }

// ConfigurationPath returns the file of a configuration network.
func (d ConfDir) ConfigurationPath(name string) string {
	return filepath.Join(string(d), "dcni-"+name+configuration)
}

// WriteConfiguration is [ConfDir.Write] for a configuration network.
func (d ConfDir) WriteConfiguration(name string, data []byte) error {
	return d.write(name, d.ConfigurationPath(name), data)
}

func (d ConfDir) write(name, path string, data []byte) error {
	return disk.Root{Path: string(d)}.ReplaceFrom(filepath.Join(string(d), tempBegin+name+tempEnd), path, data, 0o644, true)
}

// What the temporary name of a network's file begins and ends with.
const tempBegin, tempEnd = ".dcni-", ".tmp"

// SweepConf removes what writers have left of networks' files that were killed before the rename. A
// file whose network's lock is held stays: its writer may be at work.
func (s Store) SweepConf(d ConfDir) error {
	files, err := disk.NamesIn(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, file := range files {
		name, begins := strings.CutPrefix(file, tempBegin)
		name, ends := strings.CutSuffix(name, tempEnd)
		if !begins || !ends || !network.ValidName(name) {
			continue
		}
		lock, free, err := s.TryLockNetwork(name)
		if free {
			err = d.Remove(filepath.Join(string(d), file))
			lock.Unlock()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Remove removes a network's file. It is no error if it is not there.
func (d ConfDir) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveUnless removes a network's file and then asks whether that was wrong. If it was, the file
// is put back as it was. Until then it is beside its place, by a name that runtimes pass over.
// It is no error if the file is not there.
func (d ConfDir) RemoveUnless(path string, wrong func() error) error {
	kept := keptPath(path)
	err := os.Rename(path, kept)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong()
	}
	if err != nil {
		return err
	}
	if err := wrong(); err != nil {
		return errors.Join(err, os.Rename(kept, path))
	}
	return d.Remove(kept)
}

// keptPath returns where the file at a path is while RemoveUnless asks.
func keptPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".removed")
}

// RemoveKept removes what a RemoveUnless that was killed has left of a network's file.
func (d ConfDir) RemoveKept(name string) error { return d.Remove(keptPath(d.Path(name))) }
