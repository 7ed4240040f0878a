package overlay

import (
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// Anew is Objects without what the picture keeps between changes.
func (p *Picture) Anew() []wire.Object {
	q := *p
	q.told, q.linkLocals = nil, nil
	return q.Objects()
}

// NamesAnew is Names likewise, of all nodes.
func (p *Picture) NamesAnew() []names.Entry {
	q := *p
	q.named, q.lines, q.renamed = nil, nil, map[Owner]bool{}
	for _, o := range q.order {
		q.renamed[o] = true
	}
	return q.Names(func(string) bool { return true })
}
