package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree lists what is below a directory, as "a/" or "a: text", without the hashes of names.
func tree(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root+"/")
		switch {
		case err != nil || path == root:
			return err
		case d.IsDir():
			lines = append(lines, name+"/")
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			lines = append(lines, name+": "+string(text))
			return err
		default:
			lines = append(lines, name+" "+d.Type().Type().String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// write writes a file with the directories above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func makeDir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// openFiles is how many descriptors the process has.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// smallFiles limits the size of files for as long as f runs, as a disk does that is full.
func smallFiles(t *testing.T, bytes uint64, f func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
}

// TestReplaceWhole: whatever is at the path, at the temporary name or in a directory's place,
// the file is there whole, and what was no file of ours is kept.
func TestReplaceWhole(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, r Root, path string)
		kept   string // what is in the directory unreadable
	}{
		"nothing":      {func(*testing.T, Root, string) {}, ""},
		"an older one": {func(t *testing.T, _ Root, path string) { write(t, path, "old, and longer than the new one") }, ""},
		"its folder":   {func(t *testing.T, _ Root, path string) { makeDir(t, filepath.Dir(path)) }, ""},
		"a directory":  {func(t *testing.T, _ Root, path string) { write(t, path+"/x", "in it") }, "a+b.json/\na+b.json/x: in it"},
		"a file above": {func(t *testing.T, r Root, path string) { write(t, filepath.Dir(path), "no directory") }, "a: no directory"},
		"a loop above": {func(t *testing.T, r Root, path string) {
			makeDir(t, r.Path)
			link(t, "a", filepath.Dir(path))
		}, "a L---------"},
		"a link": {func(t *testing.T, r Root, path string) { makeDir(t, filepath.Dir(path)); link(t, "/nowhere", path) }, ""},
		"half a file": {func(t *testing.T, r Root, path string) {
			write(t, r.TempName(path), "half, and longer than the new one")
		}, ""},
		"a FIFO for temp": {func(t *testing.T, r Root, path string) { makeDir(t, r.Path+"/tmp"); fifo(t, r.TempName(path)) }, ""},
		"a directory for temp": {func(t *testing.T, r Root, path string) {
			write(t, r.TempName(path)+"/x", "")
		}, ""},
		"a file for tmp": {func(t *testing.T, r Root, _ string) { write(t, r.Path+"/tmp", "no directory") }, "tmp: no directory"},
	} {
		for _, sync := range []bool{false, true} {
			var log bytes.Buffer
			r := Root{Path: filepath.Join(t.TempDir(), "root"), Log: &log}
			path := filepath.Join(r.Path, "a", "b.json")
			c.before(t, r, path)
			if err := r.Replace(path, []byte("new"), sync); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := "a/\na/b.json: new\ntmp/"
			if c.kept != "" {
				want += "\nunreadable/\nunreadable/" + strings.ReplaceAll(c.kept, "\n", "\nunreadable/")
			}
			if got := tree(t, r.Path); got != want {
				t.Errorf("%s: there is\n%s\nwant\n%s", name, got, want)
			}
			if told := strings.Count(log.String(), " was moved to "); told != min(len(c.kept), 1) {
				t.Errorf("%s: told %d times: %s", name, told, &log)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
			}
		}
	}
}

func fifo(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReplaceFull: on a full disk the old file stays, and half of the new one takes up no
// room.
func TestReplaceFull(t *testing.T) {
	const most = 4 // bytes
	why := errors.New("why")
	for name, replace := range map[string]func(r Root, path string, sync bool) error{
		"replace": func(r Root, path string, sync bool) error { return r.Replace(path, []byte("longer"), sync) },
		"replace unreadable": func(r Root, path string, sync bool) error {
			return r.ReplaceUnreadable(path, []byte("longer"), sync, why)
		},
	} {
		for _, sync := range []bool{false, true} {
			r := Root{Path: t.TempDir()}
			write(t, r.Path+"/f", "old")
			var err error
			smallFiles(t, most, func() { err = replace(r, r.Path+"/f", sync) })
			if !errors.Is(err, unix.EFBIG) {
				t.Errorf("%s, sync %t: %v", name, sync, err)
			}
			if got := tree(t, r.Path); got != "f: old\ntmp/" {
				t.Errorf("%s, sync %t: there is\n%s", name, sync, got)
			}
		}
	}
}

// TestReplaceNowhere: what can't be renamed leaves nothing, and opens nothing for good.
func TestReplaceNowhere(t *testing.T) {
	r := Root{Path: t.TempDir()}
	long := strings.Repeat("x", unix.NAME_MAX+1)
	before := openFiles(t)
	for _, path := range []string{r.Path + "/" + long, r.Path + "/" + long + "/f"} {
		if err := r.Replace(path, nil, true); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := r.WriteTemp(r.Path+"/"+long, nil, 0o600, false); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a long temporary name: %v", err)
	}
	if err := SyncDir(r.Path + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync of a directory that is not there: %v", err)
	}
	if got := tree(t, r.Path); got != "tmp/" || openFiles(t) != before {
		t.Errorf("%d files are open, and were %d; left:\n%s", openFiles(t), before, got)
	}
}

// TestReplaceUnreadable: what is in the file's place is kept beside, once, and told.
func TestReplaceUnreadable(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, root, path string)
		kept   string
	}{
		"foreign":      {func(t *testing.T, _, path string) { write(t, path, "{") }, "a+b.json: {"},
		"a FIFO":       {func(t *testing.T, _, path string) { makeDir(t, filepath.Dir(path)); fifo(t, path) }, "a+b.json p---------"},
		"a directory":  {func(t *testing.T, _, path string) { makeDir(t, path+"/x") }, "a+b.json/\na+b.json/x/"},
		"gone":         {func(t *testing.T, _, path string) { makeDir(t, filepath.Dir(path)) }, ""},
		"all gone":     {func(*testing.T, string, string) {}, ""},
		"a file above": {func(t *testing.T, _, path string) { write(t, filepath.Dir(path), "no directory") }, "a: no directory"},
	} {
		for _, sync := range []bool{false, true} {
			var log bytes.Buffer
			r := Root{Path: t.TempDir(), Log: &log}
			path := filepath.Join(r.Path, "a", "b.json")
			c.before(t, r.Path, path)
			why := &UnreadableError{Path: path, Err: errors.New("this is why")}
			if err := r.ReplaceUnreadable(path, []byte("new"), sync, why); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			want := "a/\na/b.json: new\ntmp/\nunreadable/"
			if c.kept != "" {
				want += "\nunreadable/" + strings.ReplaceAll(c.kept, "\n", "\nunreadable/")
			}
			if got := tree(t, r.Path); got != want {
				t.Errorf("%s: there is\n%s\nwant\n%s", name, got, want)
			}
			told := fmt.Sprintf("dcni: %s was moved to %s/unreadable/a+b.json: this is why\n", path, r.Path)
			switch {
			case c.kept == "":
				told = ""
			case name == "a file above":
				told = fmt.Sprintf("dcni: %s/a was moved to %s/unreadable/a: is no directory\n", r.Path, r.Path)
			}
			if log.String() != told {
				t.Errorf("%s: told %q, want %q", name, &log, told)
			}
		}
	}
}

// TestSupplantFails: without the new file, what is in its place stays, and has no second name.
func TestSupplantFails(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, path string){
		"f: old": func(t *testing.T, path string) { write(t, path, "old") },
		"f/":     makeDir,
	} {
		var log bytes.Buffer
		r := Root{Path: t.TempDir(), Log: &log}
		before(t, r.Path+"/f")
		if err := r.Supplant(r.Path+"/none", r.Path+"/f", ErrIrregular); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
		if got := tree(t, r.Path); got != name+"\nunreadable/" || log.Len() > 0 {
			t.Errorf("%s: told %q, there is\n%s", name, &log, got)
		}
	}
	if err := (Root{Path: t.TempDir()}).Supplant("/nowhere", "/nowhere/else", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// TestQuarantineOften keeps the first files of a name, and the last one.
func TestQuarantineOften(t *testing.T) {
	for _, in := range []string{"", "/in"} { // a file, and one in a directory
		r := Root{Path: t.TempDir()}
		for i := range 14 {
			write(t, r.Path+"/f"+in, fmt.Sprint(i))
			if err := r.Quarantine(r.Path+"/f", ErrIrregular); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]string{"f": "0", "f.2": "1", "f.9": "8", "f.10": "13", "f.11": ""} {
			if got, _ := os.ReadFile(r.Path + "/unreadable/" + name + in); string(got) != want {
				t.Errorf("%s%s is %q, want %q", name, in, got, want)
			}
		}
	}
}

// TestQuarantine moves what is in the way, and nothing else.
func TestQuarantine(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, root string)
		want   string
		told   string // which path was moved
	}{
		"a file":      {func(t *testing.T, root string) { write(t, root+"/a/b/f", "x"); write(t, root+"/a/b/g", "y") }, "a/\na/b/\na/b/g: y\nunreadable/\nunreadable/a+b+f: x", "/a/b/f"},
		"a directory": {func(t *testing.T, root string) { write(t, root+"/a/b/f/x", "x") }, "a/\na/b/\nunreadable/\nunreadable/a+b+f/\nunreadable/a+b+f/x: x", "/a/b/f"},
		"gone":        {func(t *testing.T, root string) { makeDir(t, root+"/a/b") }, "a/\na/b/\nunreadable/", ""},
		"all gone":    {func(*testing.T, string) {}, "unreadable/", ""},
		"above":       {func(t *testing.T, root string) { write(t, root+"/a", "x") }, "unreadable/\nunreadable/a: x", "/a"},
		"a link above": {func(t *testing.T, root string) { makeDir(t, root+"/a"); link(t, "/nowhere", root+"/a/b") },
			"a/\nunreadable/\nunreadable/a+b L---------", "/a/b"},
		"a file for unreadable": {func(t *testing.T, root string) { write(t, root+"/a/b/f", "x"); write(t, root+"/unreadable", "y") },
			"a/\na/b/\nunreadable/\nunreadable/a+b+f: x\nunreadable.2: y", "/a/b/f"},
	} {
		var log bytes.Buffer
		r := Root{Path: t.TempDir(), Log: &log}
		c.before(t, r.Path)
		if err := r.Quarantine(r.Path+"/a/b/f", errors.New("why")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := tree(t, r.Path); got != c.want {
			t.Errorf("%s: there is\n%s\nwant\n%s", name, got, c.want)
		}
		told := ""
		if c.told != "" {
			told = "dcni: " + r.Path + c.told + " was moved to " + r.Path + "/unreadable/" + strings.ReplaceAll(c.told[1:], "/", "+") + ": why\n"
		}
		if log.String() != told {
			t.Errorf("%s: told %q, want %q", name, &log, told)
		}
	}
	file := filepath.Join(t.TempDir(), "root")
	write(t, file, "")
	if err := (Root{Path: file}).Quarantine(file+"/f", ErrIrregular); err == nil || !IsDir(filepath.Dir(file)) || !Exists(file) {
		t.Errorf("a root that is no directory: %v", err)
	}
	if got := obstacle(file, file+"/a/f"); got != file+"/a/f" {
		t.Errorf("the root itself is never moved, and %s is in the way", got)
	}
}

// TestMoveFileDirectory: a directory in a file's place is another process's, and stays.
func TestMoveFileDirectory(t *testing.T) {
	dir := t.TempDir()
	makeDir(t, dir+"/a/b")
	if _, err := moveFile(dir+"/a", dir+"/to"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if got := tree(t, dir); got != "a/\na/b/" {
		t.Error(got)
	}
	write(t, dir+"/f", "")
	if _, err := moveFile(dir+"/f", dir+"/none/f"); !errors.Is(err, fs.ErrNotExist) || !Exists(dir+"/f") {
		t.Errorf("to a directory that is not there: %v", err)
	}
}

// TestKeptNameLength: a path that fits is kept whole, and longer ones differ.
func TestKeptNameLength(t *testing.T) {
	root := t.TempDir()
	const most = unix.NAME_MAX - len(".10")
	fits := strings.Repeat("x", most)
	if name, err := keptName(root, filepath.Join(root, fits)); err != nil || filepath.Base(name) != fits {
		t.Errorf("%s, %v", name, err)
	}
	one, err := keptName(root, filepath.Join(root, fits+"1"))
	other, failed := keptName(root, filepath.Join(root, fits+"2"))
	if err != nil || failed != nil || one == other || len(filepath.Base(one)) != most {
		t.Errorf("%s, %s, %v, %v", one, other, err, failed)
	}
}

// TestMakeDirs: only what is in the way is moved.
func TestMakeDirs(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, root string)
		want   string
	}{
		"nothing":  {func(*testing.T, string) {}, "a/\na/b/"},
		"there":    {func(t *testing.T, root string) { write(t, root+"/a/b/f", "x") }, "a/\na/b/\na/b/f: x"},
		"a file":   {func(t *testing.T, root string) { write(t, root+"/a/b", "x") }, "a/\na/b/\nunreadable/\nunreadable/a+b: x"},
		"above it": {func(t *testing.T, root string) { write(t, root+"/a", "x") }, "a/\na/b/\nunreadable/\nunreadable/a: x"},
		"a loop":   {func(t *testing.T, root string) { link(t, "a", root+"/a") }, "a/\na/b/\nunreadable/\nunreadable/a L---------"},
		"a link": {func(t *testing.T, root string) { makeDir(t, root+"/a"); link(t, "/nowhere", root+"/a/b") },
			"a/\na/b/\nunreadable/\nunreadable/a+b L---------"},
	} {
		r := Root{Path: t.TempDir()}
		c.before(t, r.Path)
		if err := r.MakeDirs(r.Path + "/a/b"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := tree(t, r.Path); got != c.want {
			t.Errorf("%s: there is\n%s\nwant\n%s", name, got, c.want)
		}
	}
	r := Root{Path: t.TempDir()}
	if err := r.MakeDirs(r.Path + "/" + strings.Repeat("x", unix.NAME_MAX+1)); !errors.Is(err, unix.ENAMETOOLONG) || Exists(r.Path+"/unreadable") {
		t.Errorf("a long name: %v", err)
	}
}

// TestReadFiles: only regular files up to a limit are read, links as the caller says.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "12345")
	link(t, "file", at("link"))
	makeDir(t, at("dir"))
	fifo(t, at("fifo"))
	const short = "/sys/kernel/uevent_seqnum" // its size is said to be a page
	before := openFiles(t)
	for name, c := range map[string]struct {
		read func() ([]byte, error)
		want string // or the error's words
	}{
		"file":           {func() ([]byte, error) { return ReadFile(at("file")) }, "12345"},
		"link":           {func() ([]byte, error) { return ReadFile(at("link")) }, at("link") + " can't be read: too many levels of symbolic links"},
		"through a link": {func() ([]byte, error) { return ReadRegular(at("link")) }, "12345"},
		"directory":      {func() ([]byte, error) { return ReadFile(at("dir")) }, at("dir") + " can't be read: is no regular file"},
		"FIFO":           {func() ([]byte, error) { return ReadRegular(at("fifo")) }, at("fifo") + " can't be read: is no regular file"},
		"device":         {func() ([]byte, error) { return ReadRegular("/dev/zero") }, "/dev/zero can't be read: is no regular file"},
		"none":           {func() ([]byte, error) { return ReadFile(at("none")) }, "open " + at("none") + ": no such file or directory"},
		"at the limit":   {func() ([]byte, error) { return ReadLimited(at("file"), 0, 5) }, "12345"},
		"above it":       {func() ([]byte, error) { return ReadLimited(at("file"), 0, 4) }, at("file") + " can't be read: 5 bytes; at most 4 are read"},
		"below a file":   {func() ([]byte, error) { return ReadFile(at("file/x")) }, at("file/x") + " can't be read: not a directory"},
	} {
		data, err := c.read()
		got := string(data)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if want, err := os.ReadFile(short); err == nil {
		if data, err := ReadRegular(short); err != nil || len(data) == 0 || len(data) > len(want)+1 {
			t.Errorf("a file that is shorter than it says: %q, %v", data, err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, and were %d", after, before)
	}
	f, info, err := RegularFile(at("file"), os.O_RDONLY, 0)
	if err != nil || info.Size != 5 {
		t.Fatal(info, err)
	}
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	for _, name := range []string{"link", "dir", "fifo", "none"} {
		if f, _, err := RegularFile(at(name), os.O_RDONLY, 0); err == nil || f != nil {
			t.Errorf("%s was opened", name)
		}
	}
}

// TestUnreadable: errors that come again are told apart from others.
func TestUnreadable(t *testing.T) {
	for _, err := range []error{unix.ELOOP, unix.ENOTDIR, unix.EISDIR, unix.ENXIO, unix.EIO} {
		wrapped := &os.PathError{Op: "open", Path: "/x", Err: err}
		if got := Unreadable("/x", wrapped); !IsUnreadable(got) || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	for _, err := range []error{nil, unix.ENOENT, unix.EACCES, unix.EMFILE} {
		if got := Unreadable("/x", err); got != err || IsUnreadable(got) { //nolint:errorlint // the very error
			t.Errorf("%v: %v", err, got)
		}
	}
	for version, newer := range map[int]bool{0: false, Format: false, Format + 1: true} {
		err := Newer("/x", version)
		if unread, is := errors.AsType[*UnreadableError](err); is != newer || is && !unread.Newer {
			t.Errorf("format %d: %v", version, err)
		}
	}
}

// TestNames: a directory's names, and whether something is there.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "")
	link(t, "/nowhere", dir+"/dangling")
	if names, err := NamesIn(dir); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	for _, path := range []string{dir + "/f", dir + "/none"} {
		if names, err := NamesIn(path); err == nil {
			t.Errorf("%s: %v", path, names)
		}
	}
	for path, want := range map[string][2]bool{dir: {true, true}, dir + "/f": {true, false}, dir + "/none": {}} {
		if Exists(path) != want[0] || IsDir(path) != want[1] {
			t.Errorf("%s: exists %t, is a directory %t", path, Exists(path), IsDir(path))
		}
	}
	err := Rename(dir+"/none", dir+"/f")
	if l := (*os.LinkError)(nil); !errors.As(err, &l) || l.Old != dir+"/none" || l.New != dir+"/f" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestRetry: a call that a signal interrupted is made again, and no other.
func TestRetry(t *testing.T) {
	calls := 0
	n, err := Retry(func() (int, error) {
		if calls++; calls < 3 {
			return 0, unix.EINTR
		}
		return 7, unix.EIO
	})
	if n != 7 || !errors.Is(err, unix.EIO) || calls != 3 {
		t.Errorf("%d, %v, %d calls", n, err, calls)
	}
}
