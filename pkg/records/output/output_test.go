package output

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// read returns what the output has from where it is read.
func read(t *testing.T, r *Reader) string {
	t.Helper()
	var out strings.Builder
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(e.Stream + ":" + string(e.Text))
	}
}

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("of no container: %v", err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))
	w, err := Create(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Copy("stdout", strings.NewReader("one\n\ntwo words \nend"))
	w.Copy("stderr", strings.NewReader("err\n"))
	if got, want := read(t, r), "stdout:one\nstdout:\nstdout:two words \nstdout:endstderr:err\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	data, _ := os.ReadFile(Path(dir))
	if first, _, _ := strings.Cut(string(data), "\n"); first != "2026-01-02T02:04:05.000000600Z stdout F one" {
		t.Errorf("%q is not CRI's format", first)
	}
	// A line that is being written is none yet.
	f, err := os.OpenFile(Path(dir), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for part, want := range map[string]string{"2026-01-02T02:04:05.000000600Z std": "", "out F later\nnot a line\n": "stdout:later\n"} {
		if strings.HasPrefix(part, "out") {
			continue
		}
		_, _ = f.WriteString(part)
		if got := read(t, r); got != want {
			t.Errorf("after half a line: %q", got)
		}
		_, _ = f.WriteString("out F later\nnot a line\n")
		if got := read(t, r); got != "stdout:later\n" {
			t.Errorf("after the rest: %q", got)
		}
	}
}

// TestBounded: what is kept does not grow with what is printed, and a reader that follows
// misses nothing of what is there.
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	long := strings.Repeat("x", 3*MaxLine) + "\n"
	w.Copy("stdout", strings.NewReader(long))
	if got := strings.ReplaceAll(read(t, r), "stdout:", ""); got != long {
		t.Errorf("a long line came as %d bytes of %d", len(got), len(long))
	}
	line := strings.Repeat("y", 1000) + "\n"
	for range 3 {
		w.Copy("stdout", strings.NewReader(strings.Repeat(line, MaxFile/2/len(line))))
		if got := strings.Count(read(t, r), "\n"); got != MaxFile/2/len(line) {
			t.Errorf("the reader has %d lines, want %d", got, MaxFile/2/len(line))
		}
	}
	w.Copy("stdout", strings.NewReader(strings.Repeat(line, 3*MaxFile/len(line))))
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 2 {
		t.Errorf("files %v", files)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > MaxFile {
			t.Errorf("%s: %v, %v", f, info.Size(), err)
		}
	}
}
