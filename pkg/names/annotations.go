package names

import "strings"

// Annotations of a pod, or of a container (OCI runtime specification), that give a
// container its names on its networks.
const (
	AnnotationName     = "dcni-name"
	AnnotationHostname = "dcni-hostname"
	AnnotationAliases  = "dcni-aliases" // joined by commas
)

// ArgsOfNomad are the keys of CNI_ARGS by which Nomad says whose a container is: the task group,
// which several may be of, the job, and the allocation.
var ArgsOfNomad = []string{"NOMAD_GROUP_NAME", "NOMAD_JOB_ID", "NOMAD_ALLOC_ID"}

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
