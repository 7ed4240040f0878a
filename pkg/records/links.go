package records

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// This file is about which attachments of a network link to others, so that an ADD on a network
// without links has no record to read. A mark is an empty file, <Run>/links/<network>/<container>:<ifname>;
// neither word has a colon.

func (s Store) linksDir(network string) string { return filepath.Join(s.Run, "links", network) }

func (s Store) linkMark(a wire.Attachment) string {
	return filepath.Join(s.linksDir(a.Network), a.Container+":"+a.IfName)
}

// MarkLinks notes that an attachment links to others. It is written before anything else is
// made for the links.
func (s Store) MarkLinks(a wire.Attachment) error {
	if err := CheckWords(a); err != nil {
		return err
	}
	if disk.Exists(s.linkMark(a)) {
		return nil
	}
	return s.writeFile(s.linkMark(a), nil)
}

// UnmarkLinks forgets it, when nothing of the links is left.
func (s Store) UnmarkLinks(a wire.Attachment) error {
	if err := os.Remove(s.linkMark(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = unix.Rmdir(s.linksDir(a.Network)) // not empty: others have links
	return nil
}

// MarkedLinks lists the attachments of a network that link to others.
func (s Store) MarkedLinks(network string) (list []wire.Attachment, err error) {
	files, err := disk.NamesIn(s.linksDir(network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, name := range files {
		if container, ifName, ok := strings.Cut(name, ":"); ok {
			list = append(list, wire.Attachment{Network: network, Container: container, IfName: ifName})
		}
	}
	return list, err
}
