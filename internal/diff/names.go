package diff

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// typeNames has what a file can be besides regular.
var typeNames = map[fs.FileMode]string{
	0: "file", fs.ModeDir: "directory", fs.ModeSymlink: "link", fs.ModeNamedPipe: "fifo", fs.ModeSocket: "socket",
	fs.ModeDevice: "block device", fs.ModeDevice | fs.ModeCharDevice: "character device",
}

func typeName(m fs.FileMode) string {
	if name, ok := typeNames[m.Type()]; ok {
		return name
	}
	return "unknown"
}

// octal writes permissions as chmod takes them.
func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	for bit, set := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			n |= set
		}
	}
	return fmt.Sprintf("%04o", n)
}

// hexText writes an attribute's value as text if it is that, else in hexadecimal.
func hexText(s string) string {
	text := strings.TrimSuffix(s, "\x00")
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return text
	}
	return "0x" + hex.EncodeToString([]byte(s))
}
