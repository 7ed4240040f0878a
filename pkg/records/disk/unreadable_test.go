package disk

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLongKeptNames: what is moved away keeps its path as its name, as far as a file name
// goes.
func TestLongKeptNames(t *testing.T) {
	root, long := t.TempDir(), strings.Repeat("x", unix.NAME_MAX)
	for _, path := range []string{long + "/" + long, long + "/y" + long[1:]} {
		if name, err := keptName(root, filepath.Join(root, path)); err != nil || len(filepath.Base(name)) > unix.NAME_MAX-3 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
