package records

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/records/disk"
	"dcni/pkg/records/recordstest"
)

// TestUnreadable puts each of them in the place of a record and a container. It is known from other files, is moved away once, and the rest
// goes on.
func TestUnreadable(t *testing.T) {
	for name, spoil := range recordstest.Spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d") // the name of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			var log bytes.Buffer
			s := Store{Run: dir + "/r", Lib: dir + "/l", Log: &log}
			unreadableRecord(t, s, spoil, name == "newer")
			unreadableContainer(t, s, spoil)
			if got := strings.Count(log.String(), "was moved to"); got != 1 && name != "newer" {
				t.Errorf("told %d times:\n%s", got, &log)
			}
		})
	}
}

func unreadableRecord(t *testing.T, s Store, spoil func(string) error, newer bool) {
	a, b := owner("c1"), owner("c2")
	a.Network, b.Network = "web", "web"
	for _, r := range []Record{{Attachment: a, Plugin: "dbridge", State: Up}, {Attachment: b, Plugin: "dbridge", State: Up}} {
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	path := s.recordPath(a, "dbridge")
	recordstest.ReplaceBy(t, spoil, path)
	_, err := s.Get(a, "dbridge")
	unread, is := errors.AsType[*disk.UnreadableError](err)
	if !is || unread.Newer != newer {
		t.Fatalf("get: %v", err)
	}
	list, err := s.List("web")
	if err != nil || len(list) != 2 || list[0].State != Lost || list[1].State != Up {
		t.Fatalf("list: %v, %v", list, err)
	}
	if lost, err := s.Replace(a, "dbridge", unread); err != nil || lost.State != Lost {
		t.Fatal(lost, err)
	}
	if _, err := os.Lstat(filepath.Join(s.Run, "unreadable/attachments+web+c1+eth0+dbridge.json")); err != nil {
		t.Error(err)
	}
	if r, err := s.Get(a, "dbridge"); err != nil || r.State != Lost {
		t.Errorf("after it: %v, %v", r, err)
	}
	if err := s.Delete(a, "dbridge"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Dir(filepath.Dir(path))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the container's directory is there: %v", err)
	}
}

func unreadableContainer(t *testing.T, s Store, spoil func(string) error) {
	for _, id := range []string{"one", "two"} {
		if err := s.PutContainer(&Container{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	recordstest.ReplaceBy(t, spoil, s.containerPath("one"))
	list, err := s.Containers()
	if err != nil || len(list) != 2 || !disk.IsUnreadable(list[0].Unreadable) || list[0].ID != "one" || list[1].Unreadable != nil {
		t.Errorf("containers: %v, %v", list, err)
	}
}

// TestReplaceFails: where nothing can be written, what can't be read stays where it
// is: a record that is not there is that of no attachment.
func TestReplaceFails(t *testing.T) {
	for name, spoil := range recordstest.Spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			s := Store{Run: dir + "/r", Lib: dir + "/l"}
			rec := Record{Attachment: owner("c1"), Plugin: "dbridge", State: Up}
			if err := s.Put(&rec); err != nil {
				t.Fatal(err)
			}
			recordstest.ReplaceBy(t, spoil, s.recordPath(rec.Attachment, "dbridge"))
			tmp := filepath.Join(s.Run, "tmp")
			if err := errors.Join(os.RemoveAll(tmp), os.Symlink("/sys", tmp)); err != nil { // no file can be made there
				t.Fatal(err)
			}
			_, why := s.Get(rec.Attachment, "dbridge")
			if _, err := s.Replace(rec.Attachment, "dbridge", why); err == nil {
				t.Fatal("a full disk is no error")
			}
			if _, err := s.Get(rec.Attachment, "dbridge"); !disk.IsUnreadable(err) {
				t.Errorf("after it: %v", err)
			}
			if err := os.Remove(tmp); err != nil {
				t.Fatal(err)
			}
			temp, path := filepath.Join(s.Run, "none"), s.recordPath(rec.Attachment, "dbridge")
			if err := s.Root(s.Run).Supplant(temp, path, why); err == nil {
				t.Fatal("nothing was renamed to it")
			}
			if _, err := s.Get(rec.Attachment, "dbridge"); !disk.IsUnreadable(err) {
				t.Errorf("after a failed rename: %v", err)
			}
		})
	}
}

// TestObstacleRace: of processes that move the same file out of a directory's place, none
// moves the directory that another made, with a record in it.
func TestObstacleRace(t *testing.T) {
	s := testStore(t)
	obstacle := filepath.Join(s.attachments(), "web")
	for round := range 100 {
		if err := errors.Join(os.RemoveAll(obstacle), os.MkdirAll(s.attachments(), 0o755), os.WriteFile(obstacle, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		const writers = 8
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				if err := s.Put(&Record{Attachment: owner(strconv.Itoa(i)), Plugin: "dbridge", State: Up}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if list, err := s.List(""); err != nil || len(list) != writers || t.Failed() {
			t.Fatalf("round %d: %d records, %v", round, len(list), err)
		}
	}
}
