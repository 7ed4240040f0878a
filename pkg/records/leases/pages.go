package leases

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"dcni/pkg/ipam"
	"dcni/pkg/records/disk"
)

// pages is the bitmap of a network: a file for each block in which something is
// taken. It is an [ipam.Bitmap]. Changes are in memory until flush; what is on
// disk counts only while .state says clean, so their order does not matter.
type pages struct {
	dir   string
	cache map[netip.Addr]*cachedPage
	whole bool // the cache is all there is
}

type cachedPage struct {
	page    *ipam.Page // nil: all free, no file
	changed bool
}

// Page returns the page that begins at an address, or nil.
func (p *pages) Page(first netip.Addr) (*ipam.Page, error) {
	c, err := p.load(first)
	return c.page, err
}

func (p *pages) load(first netip.Addr) (*cachedPage, error) {
	if c, ok := p.cache[first]; ok {
		return c, nil
	}
	var page *ipam.Page
	var err error
	if !p.whole {
		page, err = readPage(p.path(first))
	}
	c := &cachedPage{page: page}
	if err == nil {
		p.cache[first] = c
	}
	return c, err
}

// readPage returns nil if there is no page.
func readPage(path string) (*ipam.Page, error) {
	f, info, err := disk.RegularFile(path, os.O_RDONLY, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case disk.IsUnreadable(err):
		return nil, errStale // a rebuild removes it
	case err != nil:
		return nil, err
	}
	defer f.Close()
	page := new(ipam.Page)
	if info.Size != int64(len(page)) {
		return nil, errStale // not ours
	}
	_, err = f.ReadAt(page[:], 0)
	return page, err
}

func (p *pages) path(first netip.Addr) string { return filepath.Join(p.dir, first.String()) }

func (p *pages) has(a netip.Addr) (bool, error) {
	c, err := p.load(ipam.PageOf(a))
	return c.page != nil && c.page.Has(a), err
}

func (p *pages) set(a netip.Addr, taken bool) error {
	c, err := p.load(ipam.PageOf(a))
	if err != nil {
		return err
	}
	if c.page == nil {
		c.page = new(ipam.Page)
	}
	c.page.Set(a, taken)
	c.changed = true
	return nil
}

// reset forgets everything.
func (p *pages) reset() error {
	clear(p.cache)
	return os.RemoveAll(p.dir)
}

// flush writes what was changed, and removes pages on which all is free.
func (p *pages) flush() error {
	for first, c := range p.cache {
		if !c.changed {
			continue
		}
		if err := p.write(first, c.page); err != nil {
			return err
		}
		c.changed = false
	}
	return nil
}

func (p *pages) write(first netip.Addr, page *ipam.Page) error {
	path := p.path(first)
	if page.Empty() {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := disk.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return err
		}
		f, err = disk.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(page[:], 0)
	return errors.Join(err, f.Close())
}
