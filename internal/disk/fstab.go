package disk

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed assets/fstab
var assets embed.FS

var fstab = template.Must(template.ParseFS(assets, "assets/fstab"))

// mount is a line of fstab.
type mount struct {
	UUID, Point, Kind, Options string
	// Pass is the order of fsck: the root first, then the others.
	Pass int
}

// Fstab returns the content of /etc/fstab for a disk with these partitions and
// identifiers: file systems that are mounted on others stand behind them.
func Fstab(partitions []Partition, ids Identifiers) ([]byte, error) {
	var mounts []mount
	for _, p := range partitions {
		if p.Role == ESP {
			mounts = append(mounts, mount{ids.ESPVolume.String(), "/boot/efi", "vfat", "umask=0077,nofail", 2})
		}
		f := p.FileSystem
		if f == nil {
			continue
		}
		line := mount{ids.FileSystems[f.MountPoint].UUID.String(), f.MountPoint, "ext4", strings.Join(f.MountOptions, ","), 2}
		if p.Role == Root {
			line.Pass = 1
		}
		if line.Options == "" {
			line.Options = "defaults"
		}
		mounts = append(mounts, line)
	}
	slices.SortFunc(mounts, func(a, b mount) int { return strings.Compare(a.Point, b.Point) })
	var b bytes.Buffer
	if err := fstab.Execute(&b, mounts); err != nil {
		return nil, fmt.Errorf("fstab: %w", err)
	}
	return b.Bytes(), nil
}
