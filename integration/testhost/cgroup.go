package testhost

import (
	"os"
	"path/filepath"
)

// CgroupParent is where container runtimes under test put their cgroups. There
// is no private copy of the cgroup hierarchy to be had, so this one name is the
// only thing of the machine that a test touches.
const CgroupParent = "/dcni-test"

// removeCgroups removes what a killed runtime left below CgroupParent, in each
// hierarchy of a machine with cgroup v1, or in the one of v2. A cgroup with a
// process in it is busy and stays.
func removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		roots, _ := filepath.Glob(pattern + CgroupParent)
		for _, root := range roots {
			removeTree(root)
		}
	}
}

// removeTree removes directories only, leaves first: the files of a cgroup
// can't be unlinked and go with it.
func removeTree(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir) // busy: another test run is using it
}
