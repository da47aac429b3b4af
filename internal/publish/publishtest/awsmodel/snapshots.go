package awsmodel

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// blockSize is EBS's; botocore's model does not have it as a rule.
const blockSize = 512 << 10

// snapshots are those that were started, by ID: what moto's EBS does not check.
type snapshots struct {
	mu  sync.Mutex
	all map[string]*snapshot
}

type snapshot struct {
	size     int64 // in blocks
	blocks   map[int64][sha256.Size]byte
	complete bool
}

// before checks a request that writes a snapshot.
func (s *snapshots) before(r Request, body []byte) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Operation == "StartSnapshot" {
		if r.Input["ParentSnapshotId"] != nil && r.Input["Encrypted"] != nil {
			return []string{"StartSnapshot: ParentSnapshotId and Encrypted exclude each other"}
		}
		return nil
	}
	if r.Operation != "PutSnapshotBlock" && r.Operation != "CompleteSnapshot" {
		return nil
	}
	id := text(r.Input["SnapshotId"])
	one := s.all[id]
	switch {
	case one == nil:
		return []string{fmt.Sprintf("%s: snapshot %s was not started", r.Operation, id)}
	case r.Operation == "CompleteSnapshot":
		return one.checkWhole(id, r.Input)
	}
	return one.checkBlock(id, r.Input, body)
}

func (s *snapshot) checkBlock(id string, input map[string]any, body []byte) (bad []string) {
	say := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("snapshot %s, block %v: ", id, input["BlockIndex"])+fmt.Sprintf(format, args...))
	}
	if s.complete {
		say("written after CompleteSnapshot")
	}
	if index, _ := strconv.ParseInt(text(input["BlockIndex"]), 10, 64); index >= s.size {
		say("behind the volume's end at %d", s.size)
	}
	if length := text(input["DataLength"]); len(body) != blockSize || length != strconv.Itoa(blockSize) {
		say("%d bytes, said to be %s, not %d", len(body), length, blockSize)
	}
	sum := sha256.Sum256(body)
	if got := text(input["Checksum"]); got != base64.StdEncoding.EncodeToString(sum[:]) {
		say("checksum %s is not that of the data", got)
	}
	return bad
}

// checkWhole holds CompleteSnapshot's sums against the blocks that came.
func (s *snapshot) checkWhole(id string, input map[string]any) (bad []string) {
	if got := text(input["ChangedBlocksCount"]); got != strconv.Itoa(len(s.blocks)) {
		bad = append(bad, fmt.Sprintf("snapshot %s: ChangedBlocksCount is %s, %d blocks came", id, got, len(s.blocks)))
	}
	all := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(s.blocks)) {
		sum := s.blocks[index]
		all.Write(sum[:])
	}
	if want, got := base64.StdEncoding.EncodeToString(all.Sum(nil)), text(input["Checksum"]); got != want {
		bad = append(bad, fmt.Sprintf("snapshot %s: the checksum of all blocks is %s, said to be %s", id, want, got))
	}
	return bad
}

// after notes what the service has done.
func (s *snapshots) after(r Request, body, answer []byte) {
	if r.Status >= 300 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[text(r.Input["SnapshotId"])]
	switch {
	case r.Operation == "StartSnapshot":
		var out struct{ SnapshotId string }
		if json.Unmarshal(answer, &out) == nil {
			gib, _ := strconv.ParseInt(text(r.Input["VolumeSize"]), 10, 64)
			s.all[out.SnapshotId] = &snapshot{size: gib << 30 / blockSize, blocks: map[int64][sha256.Size]byte{}}
		}
	case one == nil:
	case r.Operation == "PutSnapshotBlock":
		index, _ := strconv.ParseInt(text(r.Input["BlockIndex"]), 10, 64)
		one.blocks[index] = sha256.Sum256(body)
	case r.Operation == "CompleteSnapshot":
		one.complete = true
	}
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
