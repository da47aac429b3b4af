package v1alpha1

import (
	"fmt"
	"strings"
)

// UnitDirectory is where the build puts unit files; a unit's drop-ins lie below
// it in NAME.d (systemd.unit(5)).
const UnitDirectory = "/etc/systemd/system"

// units checks systemd units.
func (c *checker) units(units []SystemdUnit) {
	seen := map[string]string{}
	for i, unit := range units {
		at := fmt.Sprintf("spec.systemdUnits[%d]", i)
		if !c.matches(at+".name", unit.Name, unitSyntax) || c.repeated(seen, at+".name", unit.Name, unit.Name) {
			continue
		}
		if unit.Content != nil {
			c.unitFile(at, unit)
			c.claim(at+".content", unit.Path(), aFile)
		}
		names := map[string]string{}
		for j, dropIn := range unit.DropIns {
			at := fmt.Sprintf("%s.dropIns[%d]", at, j)
			if !c.matches(at+".name", dropIn.Name, dropInSyntax) || c.repeated(names, at+".name", dropIn.Name, dropIn.Name) {
				continue
			}
			c.claim(at+".name", unit.DropInPath(dropIn), aFile)
			c.matches(at+".content", dropIn.Content, textSyntax)
			if dropIn.Content == "" {
				c.require(at + ".content")
			}
		}
		c.unitState(at, unit)
	}
}

// unitFile checks the text of a unit.
func (c *checker) unitFile(at string, unit SystemdUnit) {
	text := *unit.Content
	switch {
	case !textSyntax.ok(text):
		c.add(FieldError{Field: at + ".content", Found: "the content", Problem: "is not text", Allowed: []string{textSyntax.allowed}})
	case strings.TrimSpace(text) == "":
		c.add(FieldError{Field: at + ".content", Problem: "is empty", Allowed: []string{"a unit file, or mask: true"}})
	case unit.Enable && !strings.Contains(text, "[Install]"):
		c.add(FieldError{Field: at + ".enable", Problem: "needs an [Install] section in content: it says what starts the unit"})
	}
}

// unitState checks what is said about a unit as a whole.
func (c *checker) unitState(at string, unit SystemdUnit) {
	switch {
	case unit.Mask && (unit.Enable || unit.Content != nil || len(unit.DropIns) > 0):
		c.add(FieldError{Field: at + ".mask", Problem: "leaves nothing of the unit; it goes with no other field"})
	case unit.Disable && (unit.Enable || unit.Mask):
		c.add(FieldError{Field: at + ".disable", Problem: "is the opposite of enable, and less than mask: give one of the three"})
	case !unit.Mask && !unit.Enable && !unit.Disable && unit.Content == nil && len(unit.DropIns) == 0:
		c.add(FieldError{Field: at, Problem: "says nothing about the unit", Allowed: []string{"content, dropIns, enable, disable or mask"}})
	}
}

// Path is where the unit's file lies on the node.
func (u SystemdUnit) Path() string { return UnitDirectory + "/" + u.Name }

// DropInPath is where a drop-in of the unit lies on the node.
func (u SystemdUnit) DropInPath(d DropIn) string { return u.Path() + ".d/" + d.Name }
