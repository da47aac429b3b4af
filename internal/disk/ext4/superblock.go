package ext4

import (
	"encoding/binary"
)

// superblock is ext4_super_block (super.rst).
type superblock struct {
	inodesCount       uint32 // s_inodes_count
	blocksCountLo     uint32
	rBlocksCountLo    uint32
	freeBlocksCountLo uint32
	freeInodesCount   uint32
	firstDataBlock    uint32
	logBlockSize      uint32
	logClusterSize    uint32
	blocksPerGroup    uint32
	clustersPerGroup  uint32
	inodesPerGroup    uint32
	mtime             uint32
	wtime             uint32
	mntCount          uint16
	maxMntCount       uint16
	magic             uint16
	state             uint16
	errors            uint16
	minorRevLevel     uint16
	lastcheck         uint32
	checkinterval     uint32
	creatorOS         uint32
	revLevel          uint32
	defResuid         uint16
	defResgid         uint16
	firstIno          uint32
	inodeSize         uint16
	blockGroupNr      uint16
	featureCompat     uint32
	featureIncompat   uint32
	featureROCompat   uint32
	uuid              [16]byte
	volumeName        [labelSize]byte
	lastMounted       [64]byte
	algorithmUsage    uint32
	preallocBlocks    uint8
	preallocDirBlocks uint8
	reservedGDTBlocks uint16
	journalUUID       [16]byte
	journalInum       uint32
	journalDev        uint32
	lastOrphan        uint32
	hashSeed          [16]byte
	defHashVersion    uint8
	jnlBackupType     uint8
	descSize          uint16
	defaultMountOpts  uint32
	firstMetaBG       uint32
	mkfsTime          uint32
	jnlBlocks         [17]uint32
	blocksCountHi     uint32
	rBlocksCountHi    uint32
	freeBlocksCountHi uint32
	minExtraIsize     uint16
	wantExtraIsize    uint16
	flags             uint32
	raidStride        uint16
	mmpInterval       uint16
	mmpBlock          uint64
	raidStripeWidth   uint32
	logGroupsPerFlex  uint8
	checksumType      uint8
	encryptionLevel   uint8
	_                 uint8
	kbytesWritten     uint64
	_                 [0x248 - 0x180]byte
	overheadClusters  uint32
	_                 [0x270 - 0x24C]byte
	checksumSeed      uint32
	wtimeHi           uint8
	mtimeHi           uint8
	mkfsTimeHi        uint8
	lastcheckHi       uint8
	_                 [0x3FC - 0x278]byte
	checksum          uint32
}

const (
	superblockOffset = 1024
	superblockSize   = 1024

	superMagic      = 0xEF53
	stateClean      = 1
	errorsContinue  = 1
	dynamicRevision = 1
	noMaxMntCount   = 0xFFFF // -1: no check after a number of mounts
	logBlockSize4K  = 2      // 1 KiB << 2
	jnlBackupBlocks = 1
	// defaultMountOpts are user_xattr and acl (s_default_mount_opts).
	defaultMountOpts = 0x4 | 0x8
	signedHash       = 1 // s_flags
	checksumCRC32C   = 1
)

// counts are what the superblock sums up over all groups.
type counts struct{ freeBlocks, freeInodes uint64 }

// superblock returns the superblock without its checksum and its group's number.
func (b *builder) superblock(c counts) superblock {
	epoch := uint64(b.Epoch.Unix())
	reserved := b.count / ReservedShare
	s := superblock{
		inodesCount: b.groups * b.inodesPerGroup, freeInodesCount: uint32(c.freeInodes),
		blocksCountLo: uint32(b.count), blocksCountHi: uint32(b.count >> 32),
		rBlocksCountLo: uint32(reserved), rBlocksCountHi: uint32(reserved >> 32),
		freeBlocksCountLo: uint32(c.freeBlocks), freeBlocksCountHi: uint32(c.freeBlocks >> 32),
		logBlockSize: logBlockSize4K, logClusterSize: logBlockSize4K,
		blocksPerGroup: uint32(blocksPerGroup), clustersPerGroup: uint32(blocksPerGroup), inodesPerGroup: b.inodesPerGroup,
		wtime: uint32(epoch), wtimeHi: uint8(epoch >> 32), lastcheck: uint32(epoch), lastcheckHi: uint8(epoch >> 32),
		mkfsTime: uint32(epoch), mkfsTimeHi: uint8(epoch >> 32),
		maxMntCount: noMaxMntCount, magic: superMagic, state: stateClean, errors: errorsContinue,
		revLevel: dynamicRevision, firstIno: firstInode, inodeSize: uint16(inodeSize),
		featureCompat: b.features.compat, featureIncompat: b.features.incompat, featureROCompat: b.features.roCompat,
		uuid: b.UUID, reservedGDTBlocks: uint16(b.reservedGDT),
		hashSeed: b.HashSeed, defHashVersion: hashHalfMD4, flags: signedHash,
		defaultMountOpts: defaultMountOpts, minExtraIsize: extraIsize, wantExtraIsize: extraIsize,
		overheadClusters: uint32(b.overhead()),
	}
	copy(s.volumeName[:], b.Label)
	if b.features.incompat&incompat64Bit != 0 {
		s.descSize = uint16(b.descSize)
	}
	if b.perFlex > 1 {
		s.logGroupsPerFlex = logGroupsPerFlex
	}
	if b.features.checksums() {
		s.checksumType = checksumCRC32C
	}
	if b.features.incompat&incompatCsumSeed != 0 {
		s.checksumSeed = b.seed
	}
	if j := b.special.journal; j != nil {
		s.journalInum, s.jnlBackupType = journalInode, jnlBackupBlocks
		inode := b.inodeRecord(journalInode)
		for i := range iBlockSize / 4 {
			s.jnlBlocks[i] = binary.LittleEndian.Uint32(inode[iBlock+4*i:])
		}
		s.jnlBlocks[15] = binary.LittleEndian.Uint32(inode[iSizeHigh:])
		s.jnlBlocks[16] = binary.LittleEndian.Uint32(inode[iSizeLo:])
	}
	return s
}

// encodeSuperblock returns the bytes of a copy of the superblock.
func (b *builder) encodeSuperblock(s superblock, group uint32) ([]byte, error) {
	s.blockGroupNr = uint16(group)
	data, err := binary.Append(nil, binary.LittleEndian, s)
	if err != nil {
		return nil, err
	}
	if b.features.checksums() {
		const at = superblockSize - 4
		binary.LittleEndian.PutUint32(data[at:], crc32c(^uint32(0), data[:at]))
	}
	return data, nil
}
