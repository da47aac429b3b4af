package ext4

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// The features that can be written (super.rst, "s_feature_compat",
// "s_feature_incompat", "s_feature_ro_compat").
const (
	compatHasJournal  = 0x4
	compatExtAttr     = 0x8
	compatResizeInode = 0x10
	compatDirIndex    = 0x20

	incompatFiletype = 0x2
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatFlexBG   = 0x200
	incompatCsumSeed = 0x2000

	roCompatSparseSuper  = 0x1
	roCompatLargeFile    = 0x2
	roCompatHugeFile     = 0x8
	roCompatDirNlink     = 0x20
	roCompatExtraIsize   = 0x40
	roCompatMetadataCsum = 0x400
)

// features are the three words of feature flags in the superblock.
type features struct{ compat, incompat, roCompat uint32 }

// known maps mke2fs's names to flags.
var known = map[string]features{
	"has_journal":        {compat: compatHasJournal},
	"ext_attr":           {compat: compatExtAttr},
	"resize_inode":       {compat: compatResizeInode},
	"dir_index":          {compat: compatDirIndex},
	"filetype":           {incompat: incompatFiletype},
	"extent":             {incompat: incompatExtents},
	"64bit":              {incompat: incompat64Bit},
	"flex_bg":            {incompat: incompatFlexBG},
	"metadata_csum_seed": {incompat: incompatCsumSeed},
	"sparse_super":       {roCompat: roCompatSparseSuper},
	"large_file":         {roCompat: roCompatLargeFile},
	"huge_file":          {roCompat: roCompatHugeFile},
	"dir_nlink":          {roCompat: roCompatDirNlink},
	"extra_isize":        {roCompat: roCompatExtraIsize},
	"metadata_csum":      {roCompat: roCompatMetadataCsum},
}

// required are the features without which nothing is written here.
var required = []string{"ext_attr", "filetype", "extent", "sparse_super", "large_file", "extra_isize"}

// parseFeatures returns the flags of the named features.
func parseFeatures(names []string) (features, error) {
	var all features
	if len(names) == 0 {
		return all, errors.New("ext4: no features are given")
	}
	for _, name := range names {
		f, ok := known[name]
		if !ok {
			return all, fmt.Errorf("ext4: the feature %q is none that can be written", name)
		}
		all.compat |= f.compat
		all.incompat |= f.incompat
		all.roCompat |= f.roCompat
	}
	for _, name := range required {
		if f := known[name]; all.compat&f.compat|all.incompat&f.incompat|all.roCompat&f.roCompat == 0 {
			return all, fmt.Errorf("ext4: a file system without the feature %s can't be written", name)
		}
	}
	if all.incompat&incompatCsumSeed != 0 && !all.checksums() {
		return all, errors.New("ext4: the feature metadata_csum_seed needs metadata_csum")
	}
	return all, nil
}

func (f features) checksums() bool { return f.roCompat&roCompatMetadataCsum != 0 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a checksum as ext4 has it: CRC-32C without the inversions at
// either end (checksums.rst).
func crc32c(sum uint32, data []byte) uint32 {
	return ^crc32.Update(^sum, castagnoli, data)
}
