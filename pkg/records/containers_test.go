package records

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
)

func TestContainers(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	free := func([]*Container) error { return nil }
	for i, id := range []string{"aa", "bb"} {
		c := &Container{ID: id, Name: "n" + id, Stage: Created, Created: time.Unix(int64(i), 0).UTC()}
		if err := s.AddContainer(c, free); err != nil {
			t.Fatal(err)
		}
	}
	taken := errors.New("taken")
	if err := s.AddContainer(&Container{ID: "cc"}, func(others []*Container) error {
		if len(others) != 2 {
			t.Errorf("%d others, want 2", len(others))
		}
		return taken
	}); !errors.Is(err, taken) {
		t.Errorf("a container whose name is taken: %v", err)
	}
	list, err := s.Containers()
	if err != nil || len(list) != 2 || list[0].ID != "bb" {
		t.Errorf("%v, %v: want bb before aa", list, err)
	}
	path, err := s.WriteContainerFile("aa", "hosts", "text\n")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v: must be readable to all", info, err)
	}
	if err := s.RemoveContainer("aa"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Container("aa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}

// TestBrokenRecord: one that can't be read hides no other.
func TestBrokenRecord(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if err := s.PutContainer(&Container{ID: "aa"}); err != nil {
		t.Fatal(err)
	}
	half, err := s.WriteContainerFile("aa", "half", "{")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(s.ContainerDir("bb"), 0o755), os.Rename(half, s.containerPath("bb"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.ContainerDir("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := s.Containers()
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v: want aa, bb and file", list, err)
	}
	for _, c := range list {
		if readable := c.ID == "aa"; readable != (c.Unreadable == nil) {
			t.Errorf("%s: %v", c.ID, c.Unreadable)
		}
	}
	if err := s.AddContainer(&Container{ID: "cc"}, func([]*Container) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestSweepContainers removes what a dnet left that died as it wrote its first
// record or removed its last, and nothing else.
func TestSweepContainers(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if err := s.SweepContainers(); err != nil {
		t.Fatal(err)
	}
	if err := s.AddContainer(&Container{ID: "aa"}, func([]*Container) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.ContainerDir("bb"), "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.SweepContainers(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.ContainerDir("bb")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder without a record: %v", err)
	}
	if _, err := s.Container("aa"); err != nil {
		t.Error(err)
	}
}

// TestNoRecord: a folder without a record is a container's that runs or is attached, of which that much is
// known, and else it is nothing.
func TestNoRecord(t *testing.T) {
	const id = "0123456789abcdef"
	kept := `{"kind": "cniCacheV1", "containerId": "` + id + `", "networkName": "lab", "ifName": "eth1", "config": "e30=",
		"cniArgs": [["DNET_NAME", "kept"]], "capabilityArgs": {"mac": "02:42:00:00:00:01"}}`
	for name, c := range map[string]struct {
		make func(t *testing.T, s Store) error
		want string // name, stage, networks
	}{
		"nothing": {func(*testing.T, Store) error { return nil }, ""},
		"locked": {func(t *testing.T, s Store) error {
			lock, err := s.LockContainer(id)
			t.Cleanup(lock.Unlock)
			return err
		}, "0123456789ab running"},
		"attached": {func(_ *testing.T, s Store) error {
			return s.Put(&Record{Attachment: owner(id), Plugin: "dbridge", State: Up, Name: "web"})
		}, "web exited web/eth0"},
		"kept": {func(_ *testing.T, s Store) error {
			dir := filepath.Join(s.ContainerDir(id), resultsDir)
			return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "lab-"+id+"-eth1"), []byte(kept), 0o600))
		}, "kept exited lab/eth1={}"},
		"another's kept": {func(_ *testing.T, s Store) error {
			dir := filepath.Join(s.ContainerDir(id), resultsDir)
			other := strings.Replace(kept, id, "other", 1)
			return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "lab-other-eth1"), []byte(other), 0o600))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Run: filepath.Join(t.TempDir(), "run")}
			if err := errors.Join(os.MkdirAll(s.ContainerDir(id), 0o755), c.make(t, s)); err != nil {
				t.Fatal(err)
			}
			list, err := s.Containers()
			if err == nil {
				err = s.SweepContainers()
			}
			if err != nil || (len(list) > 0) != (c.want != "") || disk.Exists(s.ContainerDir(id)) != (c.want != "") {
				t.Fatalf("%v, %v; want %q, and the folder with it", list, err, c.want)
			}
			var others int
			must := s.AddContainer(&Container{ID: "new"}, func(list []*Container) error { others = len(list); return nil })
			if must != nil || others != len(list) {
				t.Errorf("a new container sees %d others, %v", others, must)
			}
			if len(list) == 0 {
				return
			}
			got := list[0].Name + " " + string(list[0].Stage)
			for _, at := range list[0].Networks {
				got += " " + at.Network + "/" + at.IfName
				if at.Conf != nil {
					got += "=" + string(at.Conf)
				}
			}
			if got != c.want || !disk.IsUnreadable(list[0].Unreadable) {
				t.Errorf("%s: %v, want %s", got, list[0].Unreadable, c.want)
			}
		})
	}
}

func TestLockContainer(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	lock, err := s.LockContainer("aa")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.TryLockContainer("aa"); ok || err != nil {
		t.Errorf("held by another: ok %t, %v", ok, err)
	}
	if other, ok, err := s.TryLockContainer("bb"); !ok || err != nil {
		t.Errorf("another container: ok %t, %v", ok, err)
	} else {
		other.Unlock()
	}
	lock.Unlock()
	if again, ok, err := s.TryLockContainer("aa"); !ok || err != nil {
		t.Errorf("free again: ok %t, %v", ok, err)
	} else {
		again.Unlock()
	}
}

// TestAsked reads what an attachment was asked to have, as it was made and as a record has it.
func TestAsked(t *testing.T) {
	made := Attachment{
		Network: "web", Args: [][2]string{{"IgnoreUnknown", "1"}, {"IP", "10.1.0.9"}, {"DNET_LINKS", "db:sql,web:web"}},
		Values: map[string]any{"ips": []string{"fd00::9"}, "aliases": map[string][]string{"web": {"db"}, "lab": {"other"}}},
	}
	data, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var read Attachment
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	for _, at := range []Attachment{made, read} {
		got := at.Asked()
		if got.IPv4.String() != "10.1.0.9" || got.IPv6.String() != "fd00::9" || !slices.Equal(got.Aliases, []string{"db"}) || !slices.Equal(got.Links, []string{"db:sql", "web:web"}) {
			t.Errorf("%+v: asked for %+v", at, got)
		}
	}
	odd := Attachment{Values: map[string]any{"ips": []string{"10.1.0.9"}}, Args: [][2]string{{"IP", "nine"}, {"GATEWAY", "10.1.0.1"}, {"DNET_LINKS", ""}}}
	if got := odd.Asked(); got.IPv4.String() != "10.1.0.9" || got.Links != nil {
		t.Errorf("%+v: asked for %+v", odd, got)
	}
	if got := (Attachment{Values: map[string]any{"ips": 7}}).Asked(); got.IPv4.IsValid() || got.IPv6.IsValid() || got.Aliases != nil || got.Links != nil {
		t.Errorf("asked for nothing: %+v", got)
	}
}

// TestRemoveContainer: one is removed with all that is in its folder, also where its record is
// gone or can't be read.
func TestRemoveContainer(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	for _, id := range []string{"aa", "bb", "cc"} {
		if err := s.PutContainer(&Container{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(s.containerPath("aa")), s.RemoveContainer("aa"), s.RemoveContainer("none")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(s.containerPath("cc")), os.MkdirAll(filepath.Join(s.containerPath("cc"), "within"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveContainer("cc"); err == nil {
		t.Error("a directory in a record's place was removed with all that is in it")
	}
	if err := os.WriteFile(s.containerPath("bb"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, why := s.Container("bb")
	if err := s.ForgetUnreadable("bb", why); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"aa", "bb"} {
		if _, err := os.Stat(s.ContainerDir(id)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", id, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(s.Run, "unreadable", "containers+bb+config.json")); err != nil || string(text) != "{" {
		t.Errorf("its record is not kept: %s, %v", text, err)
	}
	if err := s.PutContainer(&Container{ID: "dd"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.containerPath("dd"), []byte(`{"version": 1, "id": "ee"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Container("dd"); !disk.IsUnreadable(err) || !strings.Contains(err.Error(), `it is of container "ee"`) {
		t.Errorf("another container's record: %v", err)
	}
}

// TestCheckResults removes what libcni would wait for, and leaves what it kept.
func TestCheckResults(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if err := s.CheckResults("aa"); err != nil {
		t.Errorf("nothing kept: %v", err)
	}
	dir := filepath.Join(s.ContainerDir("aa"), "results")
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.MkdirAll(at("directory/x"), 0o700), os.WriteFile(at("kept"), []byte("{"), 0o600), unix.Mkfifo(at("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckResults("aa"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "kept" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestExitStatus: the status of a container that is forgotten is read from a file that was
// opened before; one that is forgotten has no such file.
func TestExitStatus(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if _, err := s.OpenStatus("aa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no container: %v", err)
	}
	if err := s.PutContainer(&Container{ID: "aa"}); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenStatus("aa")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := ReadStatus(f); ok {
		t.Error("a status before the end")
	}
	if err := errors.Join(os.WriteFile(f.Name(), []byte("7"), 0o600), s.RemoveContainer("aa")); err != nil {
		t.Fatal(err)
	}
	if status, ok := ReadStatus(f); status != 7 || !ok {
		t.Errorf("status %d, %t", status, ok)
	}
}
