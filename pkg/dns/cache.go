package dns

import (
	"hash/maphash"
	"sync"
	"time"
)

// cacheParts is how many parts of the cache have a lock each.
const cacheParts = 16

// overhead is roughly what an entry takes besides its message and key, in
// bytes: itself, its place in a map, the list of its records.
const overhead = 256

// A cache keeps answers within a bound of memory.
type cache struct {
	seed  maphash.Seed
	parts [cacheParts]cachePart
}

type cachePart struct {
	mu      sync.RWMutex
	entries map[string]*entry
	size    int // bytes of all of them
	max     int
}

func newCache(bytes int) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].entries = map[string]*entry{}
		c.parts[i].max = bytes / cacheParts
	}
	return c
}

// get returns an answer that has not expired, or nil. It does not allocate.
func (c *cache) get(key []byte, now time.Duration) *entry {
	p := &c.parts[maphash.Bytes(c.seed, key)%cacheParts]
	p.mu.RLock()
	e := p.entries[string(key)]
	p.mu.RUnlock()
	if e == nil || now >= e.born+e.life {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e
}

// put keeps an answer, and drops others if there is no room.
func (c *cache) put(key string, e *entry, now time.Duration) {
	p := &c.parts[maphash.String(c.seed, key)%cacheParts]
	if cost(key, e) > p.max {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.entries[key]; old != nil {
		p.size -= cost(key, old)
	}
	p.entries[key] = e
	p.size += cost(key, e)
	// Go walks a map in random order. An entry that was used since eviction last
	// met it is spared once, so a flood of new names drops new names.
	for p.size > p.max {
		for k, v := range p.entries {
			if k != key && (now >= v.born+v.life || !v.used.Swap(false)) {
				delete(p.entries, k)
				p.size -= cost(k, v)
			}
			if p.size <= p.max {
				break
			}
		}
	}
}

// clear drops all answers.
func (c *cache) clear() {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		p.entries, p.size = map[string]*entry{}, 0
		p.mu.Unlock()
	}
}

func cost(key string, e *entry) int { return len(key) + len(e.msg) + 4*len(e.records) + overhead }
