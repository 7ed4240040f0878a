package names

import "strings"

// Annotations by which whoever starts a container names it on its networks: of a
// pod, or of a container itself (OCI runtime specification).
const (
	AnnotationName     = "dcni-name"
	AnnotationHostname = "dcni-hostname"
	AnnotationAliases  = "dcni-aliases" // joined by commas
)

// Annotated returns what annotations say of a container's names, unchecked.
// Others are not looked at.
func Annotated(all map[string]string) Identity {
	i := Identity{Name: all[AnnotationName], Hostname: all[AnnotationHostname]}
	for alias := range strings.SplitSeq(all[AnnotationAliases], ",") {
		if alias = strings.TrimSpace(alias); alias != "" {
			i.Aliases = append(i.Aliases, alias)
		}
	}
	return i
}
