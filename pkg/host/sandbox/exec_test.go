package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/host/proc"
)

// TestFindExecutable checks a shell's rules of where a command is, and a shell's
// statuses.
func TestFindExecutable(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"runs": 0o755, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path, message string
		status        int
	}{
		"runs":         {path: dir + "/runs"},
		dir + "/runs":  {path: dir + "/runs"},
		"nosuch":       {message: `exec: "nosuch": executable file not found in $PATH`, status: 127},
		"/nosuch/file": {message: `exec: "/nosuch/file": stat /nosuch/file: no such file or directory`, status: 127},
		"data":         {message: `exec: "data": permission denied`, status: 126},
		dir + "/data":  {message: `exec: "` + dir + `/data": permission denied`, status: 126},
		dir:            {message: `exec: "` + dir + `": is a directory`, status: 126},
	} {
		cmd := Command{Args: []string{name}, Env: []string{"PATH=/other", "PATH=/nosuch:" + dir}}
		path, err := cmd.findExecutable()
		failed := &ExecError{}
		switch {
		case c.message == "" && (err != nil || path != c.path):
			t.Errorf("%s: %s, %v, want %s", name, path, err, c.path)
		case c.message != "" && (!errors.As(err, &failed) || failed.Message != c.message || failed.Status != c.status):
			t.Errorf("%s: %+v, want %d: %s", name, err, c.status, c.message)
		}
	}
}

func TestStartTime(t *testing.T) {
	own, err := proc.Process(os.Getpid()).StartTime()
	if err != nil || own == 0 {
		t.Errorf("own start time %d, %v", own, err)
	}
	if first, err := proc.Process(1).StartTime(); err != nil || first > own {
		t.Errorf("of process 1: %d, %v, and own is %d", first, err, own)
	}
}
