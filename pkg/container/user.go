package container

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A User is whom a command runs as.
type User struct {
	UID, GID int
	Groups   []int  // supplementary
	Home     string // "" if no line of passwd says it
}

// maxID is the largest number of a user or group (uid_t without -1).
const maxID = 1<<31 - 1

// ParseUser reads NAME|UID[:GROUP|GID] by the texts of /etc/passwd and /etc/group, as
// Docker does: a number needs no line in them, a name does. A group that is given is the
// only one.
func ParseUser(text, passwd, group string) (User, error) {
	name, groupName, hasGroup := strings.Cut(text, ":")
	u := User{}
	line := find(passwd, 7, func(f []string) bool { return f[0] == name || f[2] == name })
	uid, err := strconv.Atoi(name)
	switch {
	case line != nil:
		u.UID, u.Home = number(line[2]), line[5]
		if u.GID = number(line[3]); u.GID < 0 {
			return u, fmt.Errorf("user %s: the group in the passwd file is no number", name)
		}
	case name == "":
	case err != nil:
		return u, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	case uid < 0 || uid > maxID:
		return u, fmt.Errorf("user %d: uids and gids must be in range 0-%d", uid, maxID)
	default:
		u.UID = uid
	}
	if !hasGroup || groupName == "" {
		if line != nil {
			u.Groups = groupsOf(group, line[0], u.GID)
		}
		return u, nil
	}
	gline := find(group, 4, func(f []string) bool { return f[0] == groupName || f[2] == groupName })
	gid, err := strconv.Atoi(groupName)
	switch {
	case gline != nil:
		u.GID = number(gline[2])
	case err != nil:
		return u, fmt.Errorf("unable to find group %s: no matching entries in group file", groupName)
	case gid < 0 || gid > maxID:
		return u, fmt.Errorf("group %d: uids and gids must be in range 0-%d", gid, maxID)
	default:
		u.GID = gid
	}
	return u, nil
}

// find returns the fields of the first line that fits, nil if none does. A line whose ID is
// no number fits nothing.
func find(text string, fields int, fits func([]string) bool) []string {
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Split(line, ":")
		if len(f) >= fields && number(f[2]) >= 0 && fits(f) {
			return f
		}
	}
	return nil
}

// groupsOf returns the groups that have a user as a member, besides one.
func groupsOf(group, user string, besides int) (gids []int) {
	find(group, 4, func(f []string) bool {
		if gid := number(f[2]); gid != besides && slices.Contains(strings.Split(f[3], ","), user) {
			gids = append(gids, gid)
		}
		return false
	})
	return gids
}

// number reads an ID; -1 if it is none.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n > maxID {
		return -1
	}
	return n
}
