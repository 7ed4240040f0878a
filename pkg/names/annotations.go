package names

import "strings"

// Annotations of a pod, or of a container (OCI runtime specification), that give a
// container its names on its networks.
const (
	AnnotationName     = "dcni-name"
	AnnotationHostname = "dcni-hostname"
	AnnotationAliases  = "dcni-aliases" // joined by commas
)

// Annotated returns a container's names as annotations give them, unchecked. It
// ignores other annotations.
func Annotated(all map[string]string) Identity {
	i := Identity{Name: all[AnnotationName], Hostname: all[AnnotationHostname]}
	for alias := range strings.SplitSeq(all[AnnotationAliases], ",") {
		if alias = strings.TrimSpace(alias); alias != "" {
			i.Aliases = append(i.Aliases, alias)
		}
	}
	return i
}
