package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
)

// The node whose member leads the store writes a snapshot of it each day, and keeps the last
// ones of its own. The store has which was the last one of all:
//
//	snapshot    a cluster.SnapshotInfo
//
// so a leader that follows another goes on where that one was.

// Times of snapshots.
const (
	snapshotEvery = 24 * time.Hour
	snapshotLook  = time.Minute      // between two looks whether it is time
	snapshotRetry = time.Hour        // after one that failed
	snapshotTime  = 10 * time.Minute // how long one may take
)

// defaultSnapshots is how many are kept.
const defaultSnapshots = 7

// dirSnapshots is the folder of records.Cluster that they are in, and what their names end in.
const (
	dirSnapshots   = "snapshots"
	snapshotSuffix = ".snapshot"
)

func (n *node) snapshotKey() string { return n.keys.Prefix + "snapshot" }

// keepSnapshots writes snapshots while this node leads.
func (n *node) keepSnapshots(ctx context.Context) {
	if n.options.snapshots == 0 || n.conf().External != nil {
		return
	}
	pause := min(snapshotLook, n.snapshotEvery/4)
	for sleep(ctx, pause) {
		if !n.leads.Load() {
			continue
		}
		err := n.snapshotIfDue(ctx, time.Now().UTC())
		if err == nil || ctx.Err() != nil || errors.Is(err, overlay.ErrUnavailable) {
			continue
		}
		n.log.Error("the store's daily snapshot was not written", "error", err)
		sleep(ctx, snapshotRetry)
	}
}

// snapshotIfDue writes one if the last one is old, and removes those that are too many.
func (n *node) snapshotIfDue(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	last, err := n.lastSnapshot(ctx)
	if err != nil || last != nil && now.Sub(last.Time) < n.snapshotEvery && !last.Time.After(now) {
		return err
	}
	dir, err := n.state.MakeDir(dirSnapshots)
	if err != nil {
		return err
	}
	name := snapshotName(n.conf().Cluster, now)
	path := dir + "/" + name
	size, err := n.state.WriteNew(path, func(w io.Writer) error { return n.store.Snapshot(ctx, w) })
	if err != nil {
		return err
	}
	value, err := json.Marshal(cluster.SnapshotInfo{Node: n.conf().Node, Path: path, Time: now, Bytes: size})
	if err != nil {
		return err
	}
	n.log.Info("the store's daily snapshot", "file", path, "bytes", size)
	return errors.Join(n.change(ctx, overlay.Change{Key: n.snapshotKey(), Value: value}), n.dropSnapshots())
}

// dropSnapshots removes the oldest ones of this node.
func (n *node) dropSnapshots() error {
	names, err := n.state.Names(dirSnapshots)
	for _, name := range spareSnapshots(names, n.conf().Cluster, n.options.snapshots) {
		err = errors.Join(err, n.state.Remove(dirSnapshots+"/"+name))
	}
	return err
}

// snapshotName names a snapshot by its cluster and time; those of one cluster sort by time.
func snapshotName(id string, now time.Time) string {
	return fmt.Sprintf("%s-%s%s", id, now.UTC().Format("20060102T150405Z"), snapshotSuffix)
}

// spareSnapshots returns the files that are not among the last ones of a cluster. Files of
// other clusters, and others, stay.
func spareSnapshots(names []string, id string, keep int) []string {
	own := slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(name string) bool {
		return !strings.HasPrefix(name, id+"-") || !strings.HasSuffix(name, snapshotSuffix)
	})
	return own[:max(0, len(own)-keep)]
}

// lastSnapshot returns which one was the last, nil where there was none or it can't be read.
func (n *node) lastSnapshot(ctx context.Context) (*cluster.SnapshotInfo, error) {
	e, err := n.store.Get(ctx, n.snapshotKey())
	if errors.Is(err, overlay.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var last cluster.SnapshotInfo
	if json.Unmarshal(e.Value, &last) != nil {
		return nil, nil //nolint:nilerr // what can't be read is no snapshot
	}
	return &last, nil
}
