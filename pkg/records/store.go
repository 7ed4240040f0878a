// Package records is what dcni remembers on disk, and the locks under which it
// does. This comment is the specification of the files.
//
// # Two places
//
// Store.Run (/run/dcni) dies with the boot, as sandboxes do; Store.Lib
// (/var/lib/dcni) stays.
//
//	/run/dcni/lock      every lock, as a locked byte of this one empty file
//	/run/dcni/epoch     a random word made once per boot, and epoch.copy
//	/run/dcni/tmp/      files being written, before they are renamed
//	/run/dcni/host/     what was changed of the host's own, as it was, see [Change]
//	/run/dcni/drained/, healthy/    what is known of tasks of services
//	/run/dcni/overlay/, served/     what overlay networks have on other nodes: names, and services
//	/run/dcni/nodes.json    the addresses of a cluster's nodes, from which VXLAN is taken
//
// # Leases
//
// A network's leases are the symbolic links of one directory, made to be read
// with `ls -l`:
//
//	/var/lib/dcni/leases/web/
//	    10.1.0.5 -> c1/eth0@6f1e0c55a2d9         a lease: owner @ epoch
//	    10.1.0.6 -> c2/eth0@6f1e0c55a2d9:db      a sticky one: with its name
//	    by-owner/c1/eth0 -> 10.1.0.5,fd00::5     all addresses of an attachment
//	    by-name/db/eth0 -> 10.1.0.6              what is kept for a name
//	    .pages/10.1.0.0                          bitmap of 2^15 addresses
//	    .state                                   is the bitmap right, and where next
//
// The links named by addresses are the truth; a name is the canonical text of
// its address, so an address has one name. An operator may remove a link by
// hand. by-owner and .pages follow from the truth and can be made again.
// by-name is a truth of its own: the addresses that belong to a container name
// also while no lease holds them. The time of that link (ls -l shows it) is
// when the name last took or gave back its addresses. To give a name up, remove
// its directory in by-name and `touch` the network's.
//
// Names of containers come from outside: bytes other than letters, digits,
// '-', '_' and '.' are written %XX in by-name, so is a leading dot, and a long
// name is cut and ends in '~' and a hash.
//
// Package leases says why this is right after a crash.
//
// # Networks
//
//	/var/lib/dcni/networks/web.json    {"name", "subnets", "fromPool", "bridge", "conf"}
//
// remembers the subnets of each network; "fromPool" lists those that were chosen
// and are in no file; "conf" is the file, where dnet made it.
//
// The networks themselves are files that all CNI runtimes read, see [ConfDir].
//
// # Services
//
//	/var/lib/dcni/services/web/api.json    the service api of network web, see [Service]
//
// # Containers
//
//	/run/dcni/containers/<ID>/config.json    a container of dnet run, see [Container]
//	                          resolv.conf hosts hostname    its own files, mounted in it
//	                          results/       what libcni remembers for DEL
//
// A folder without config.json is rubbish, see SweepContainers.
//
// # Files that can't be read
//
//	/run/dcni/unreadable/attachments+web+c1+eth0+dbridge.json
//	/var/lib/dcni/unreadable/networks+web.json
//
// A file that is truncated, foreign, no regular file, or too large to be ours stops
// nothing but what it is about. It is moved to the directory unreadable, with the path
// that it had for a name, by the first process that has to write in its place, which
// says so once. In the place of a record that of a [Lost] attachment is written: DEL works
// from its identity. Files have a "version"; one of a newer version stays where it is
// until what it is about is deleted, or attached again after its interface went.
//
// # Caveats
//
// Leases are not synced to the disk: a power failure ends the sandboxes that
// they are for, and the next boot has another epoch. What is kept for a name
// may lose its last changes then.
package records

import (
	"io"
	"os"
	"path/filepath"

	"dcni/pkg/ipam"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/filecache"
	"dcni/pkg/records/places"
)

// Store is where things are remembered.
type Store struct {
	Run string    // until the next boot
	Lib string    // for good
	Log io.Writer // takes a line for each file that is moved away, see [disk.UnreadableError]; nil: none

	Cache *filecache.Cache // of what services need; nil: each look reads the files
}

// Default returns the store in its usual places: /run/dcni and /var/lib/dcni, or a user's own.
func Default() Store {
	return Store{Run: places.Run(), Lib: places.Lib(ipam.DefaultDataDir), Log: os.Stderr}
}

// DataDir returns a directory named in a configuration, Lib by default.
func (s Store) DataDir(dir string) string {
	if dir == "" || dir == ipam.DefaultDataDir {
		return s.Lib
	}
	return filepath.Clean(dir)
}

// Root returns one of the store's directories, or another one, as package disk has it.
func (s Store) Root(path string) disk.Root { return disk.Root{Path: path, Log: s.Log} }

// writeFile replaces a file below Run. Below Run nothing is synced: it is a tmpfs.
func (s Store) writeFile(path string, data []byte) error {
	return s.Root(s.Run).Replace(path, data, false)
}
