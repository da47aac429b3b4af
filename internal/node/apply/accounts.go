package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"nodesmith.dev/nodesmith/internal/node"
)

// noPassword is a password field that no password matches. Unlike "!" it does
// not lock the account, which sshd without PAM takes as a reason to refuse keys.
const noPassword = "*"

// accounts are the tables of passwd(5), group(5), shadow(5) and gshadow(5).
type accounts struct {
	passwd, group, shadow, gshadow table
}

// table is one file of colon-separated lines.
type table struct {
	path   string
	fields int // of each line
	rows   [][]string
	// changed is whether the file has to be written.
	changed bool
}

// loadAccounts reads the target's tables. A target without gshadow has an empty
// one, which is never written.
func loadAccounts(t *tree) (*accounts, error) {
	a := &accounts{
		passwd:  table{path: "/etc/passwd", fields: 7},
		group:   table{path: "/etc/group", fields: 4},
		shadow:  table{path: "/etc/shadow", fields: 9},
		gshadow: table{path: "/etc/gshadow", fields: 4},
	}
	for _, tab := range a.tables() {
		data, err := t.read(tab.path)
		if errors.Is(err, fs.ErrNotExist) && tab == &a.gshadow {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the target's accounts: %w", err)
		}
		if err := tab.parse(string(data)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *accounts) tables() []*table {
	return []*table{&a.passwd, &a.group, &a.shadow, &a.gshadow}
}

func (tab *table) parse(text string) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		row := strings.Split(line, ":")
		if len(row) != tab.fields {
			return fmt.Errorf("%s:%d has %d fields, not %d", tab.path, n, len(row), tab.fields)
		}
		tab.rows = append(tab.rows, row)
	}
	return nil
}

// find returns the row whose field i is value, or nil.
func (tab *table) find(i int, value string) []string {
	for _, row := range tab.rows {
		if row[i] == value {
			return row
		}
	}
	return nil
}

func (tab *table) add(row ...string) {
	tab.rows = append(tab.rows, row)
	tab.changed = true
}

// addMember adds name to the comma-separated list in field 3 of a group's row.
func (tab *table) addMember(group, name string) {
	row := tab.find(0, group)
	if row == nil {
		return
	}
	members := strings.FieldsFunc(row[3], func(c rune) bool { return c == ',' })
	if !slices.Contains(members, name) {
		row[3] = strings.Join(append(members, name), ",")
		tab.changed = true
	}
}

func (tab *table) String() string {
	var b strings.Builder
	for _, row := range tab.rows {
		b.WriteString(strings.Join(row, ":"))
		b.WriteByte('\n')
	}
	return b.String()
}

// account makes the account of u, unless there is one. day is the day of the
// last password change, in days since 1970.
func (a *accounts) account(u node.User, day int64) error {
	row := a.passwd.find(0, u.Name)
	switch {
	case row == nil:
		return a.create(u, day)
	case u.Shell != "" && u.Shell != row[6]:
		return fmt.Errorf("the account exists and has the shell %s, not %s; leave shell out", row[6], u.Shell)
	case u.ID != 0 && strconv.Itoa(u.ID) != row[2]:
		return fmt.Errorf("the account exists and has the number %s, not %d; leave uid out", row[2], u.ID)
	}
	return nil
}

// join puts an account into its groups.
func (a *accounts) join(u node.User) error {
	for _, g := range u.Groups {
		if a.group.find(0, g) == nil {
			return fmt.Errorf("there is no group %s in the image; install the package that brings it", g)
		}
		a.group.addMember(g, u.Name)
		a.gshadow.addMember(g, u.Name)
	}
	return nil
}

// create adds an account with a group of its own name and, as far as groups of
// that id are free, of its own number.
func (a *accounts) create(u node.User, day int64) error {
	if a.group.find(0, u.Name) != nil {
		return fmt.Errorf("a group of that name exists, but no account; choose another name")
	}
	id, err := a.number(u.ID, &a.passwd, &a.group)
	if err != nil {
		return err
	}
	shell := u.Shell
	if shell == "" {
		shell = "/bin/bash"
	}
	a.passwd.add(u.Name, "x", id, id, "", "/home/"+u.Name, shell)
	a.shadow.add(u.Name, noPassword, strconv.FormatInt(day, 10), "0", "99999", "7", "", "", "")
	a.addGroup(u.Name, id)
	return nil
}

// ensureGroup makes the group g, unless there is one of that name and number.
func (a *accounts) ensureGroup(g node.Group) error {
	if row := a.group.find(0, g.Name); row != nil {
		if g.ID != 0 && row[2] != strconv.Itoa(g.ID) {
			return fmt.Errorf("the group exists and has the number %s, not %d; leave gid out", row[2], g.ID)
		}
		return nil
	}
	id, err := a.number(g.ID, &a.group)
	if err != nil {
		return err
	}
	a.addGroup(g.Name, id)
	return nil
}

func (a *accounts) addGroup(name, id string) {
	a.group.add(name, "x", id, "")
	if len(a.gshadow.rows) > 0 {
		a.gshadow.add(name, "!", "", "")
	}
}

// number returns the wanted id, or the first that is free in the tables if none
// is wanted. Field 2 of the tables holds ids.
func (a *accounts) number(wanted int, in ...*table) (string, error) {
	first, last := node.MinID, node.MaxID
	if wanted != 0 {
		first, last = wanted, wanted
	}
	var taken []string
	for n := first; n <= last; n++ {
		id := strconv.Itoa(n)
		i := slices.IndexFunc(in, func(tab *table) bool { return tab.find(2, id) != nil })
		if i < 0 {
			return id, nil
		}
		taken = in[i].find(2, id)
	}
	if wanted != 0 {
		return "", fmt.Errorf("the number %d is that of %s in the image; choose another", wanted, taken[0])
	}
	return "", fmt.Errorf("no id from %d to %d is free", first, last)
}

// home returns where an account lives and whose its files are.
func (a *accounts) home(name string) (dir string, uid, gid int, err error) {
	row := a.passwd.find(0, name)
	if row == nil {
		return "", 0, 0, fmt.Errorf("no account %s", name)
	}
	uid, uerr := strconv.Atoi(row[2])
	gid, gerr := strconv.Atoi(row[3])
	if err := errors.Join(uerr, gerr); err != nil {
		return "", 0, 0, fmt.Errorf("/etc/passwd, account %s: %w", name, err)
	}
	if !strings.HasPrefix(row[5], "/") || row[5] == "/" || row[5] == "/nonexistent" {
		return "", 0, 0, fmt.Errorf("account %s has no home for keys: %q", name, row[5])
	}
	return row[5], uid, gid, nil
}

// owner resolves names and numbers to ids.
func (a *accounts) owner(o node.Owner) (uid, gid int, err error) {
	if uid, err = a.passwd.id(o.User, "user"); err != nil {
		return 0, 0, err
	}
	gid, err = a.group.id(o.Group, "group")
	return uid, gid, err
}

// id returns the number of a name in passwd or group, where field 2 holds it.
func (tab *table) id(name, what string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if row := tab.find(0, name); row != nil {
		name = row[2]
	}
	id, err := strconv.Atoi(name)
	if err != nil {
		return 0, fmt.Errorf("there is no %s %s in the image's %s", what, name, tab.path)
	}
	return id, nil
}

func (r *run) readAccounts() (err error) {
	r.accounts, err = loadAccounts(r.tree)
	return err
}

func (r *run) writeAccounts() error {
	if err := r.readAccounts(); err != nil {
		return err
	}
	a := r.accounts
	for _, given := range []bool{true, false} { // numbers that are given are taken first
		for _, g := range r.config.Groups {
			if (g.ID != 0) != given {
				continue
			}
			if err := a.ensureGroup(g); err != nil {
				return fmt.Errorf("group %s: %w", g.Name, err)
			}
		}
		for _, u := range r.config.Users {
			if (u.ID != 0) != given {
				continue
			}
			if err := a.account(u, r.options.Time.Unix()/86400); err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
		}
	}
	for _, u := range r.config.Users {
		if err := a.join(u); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	for _, tab := range a.tables() {
		if !tab.changed {
			continue
		}
		if err := r.tree.rewrite(tab.path, []byte(tab.String())); err != nil {
			return fmt.Errorf("%s: %w", tab.path, err)
		}
	}
	return nil
}
