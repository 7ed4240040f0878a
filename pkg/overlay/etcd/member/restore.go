package member

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// bump is how far the revision of a restored store is ahead of its snapshot's. Clients
// that have seen later revisions than the snapshot's are told that those were compacted,
// and list again. A store that commits 1,000 times a second reaches it in eleven days.
const bump = 1_000_000_000

// Restore makes the data of a member from a snapshot's file, in a folder that is not there
// yet: it is the only member of a new cluster. Of the configuration it takes name, folder,
// peer URL, members and cluster.
func Restore(file string, c Config) error {
	members := ""
	for name, url := range c.Members {
		members = name + "=" + url
	}
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: c.Name, OutputDataDir: c.Dir, PeerURLs: []string{c.Peer},
		InitialCluster: members, InitialClusterToken: c.Cluster, RevisionBump: bump, MarkCompacted: true,
	})
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "snapshot missing hash"), strings.Contains(err.Error(), "expected sha256"): // no other sign of it
		return fmt.Errorf("snapshot %s: is none, as `dnet cluster snapshot` writes it, or was not copied whole", file)
	default:
		return fmt.Errorf("snapshot %s: %w", file, err)
	}
	return nil
}
