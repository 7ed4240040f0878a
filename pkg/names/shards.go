package names

import "maps"

// parts is in how many maps shards keep their values: with a thousand
// containers on a network, one of its maps is some eighty names.
const parts = 64

// shards is a map that is never changed: with and without return another one,
// which shares all but one part with it. The zero value is empty.
type shards[V any] struct {
	parts *[parts]map[string]V // nil: empty
	n     int                  // values
}

func (s shards[V]) get(key string) (value V) {
	if s.parts == nil {
		return value
	}
	return s.parts[part(key)][key]
}

// find is get without making a string.
func (s shards[V]) find(key []byte) (value V) {
	if s.parts == nil {
		return value
	}
	return s.parts[part(key)][string(key)]
}

func (s shards[V]) with(key string, value V) shards[V] {
	out, m := s.copy(part(key))
	m[key] = value
	out.n += len(m) - len(s.part(key))
	return out
}

func (s shards[V]) without(key string) shards[V] {
	out, m := s.copy(part(key))
	delete(m, key)
	out.n += len(m) - len(s.part(key))
	return out
}

func (s shards[V]) part(key string) map[string]V {
	if s.parts == nil {
		return nil
	}
	return s.parts[part(key)]
}

// copy returns shards with a part of their own, and that part.
func (s shards[V]) copy(i int) (shards[V], map[string]V) {
	fresh := new([parts]map[string]V)
	if s.parts != nil {
		*fresh = *s.parts
	}
	m := maps.Clone(fresh[i])
	if m == nil {
		m = map[string]V{}
	}
	fresh[i] = m
	return shards[V]{fresh, s.n}, m
}

// part says which part a key is in: FNV-1a, 32 bits.
func part[T string | []byte](key T) int {
	hash := uint32(2166136261)
	for i := range len(key) {
		hash = (hash ^ uint32(key[i])) * 16777619
	}
	return int(hash % parts)
}
