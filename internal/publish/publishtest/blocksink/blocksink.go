// Package blocksink is a stand-in for EBS's direct API, for disks whose blocks would
// fill moto's memory, and for benchmarks, in which moto takes a hundred times as long.
//
// What comes in are the requests of an upload; what goes out are answers to blocks
// whose length and SHA-256 are right, and refusals of others. It keeps no block.
package blocksink

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"sync"

	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
)

// Handler answers PutSnapshotBlock, and calls of other methods as if a snapshot had
// been begun or completed.
func Handler() http.Handler {
	type block [snapshot.BlockSize]byte
	rooms := sync.Pool{New: func() any { return new(block) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			_, _ = io.WriteString(w, `{"SnapshotId": "snap-0123456789abcdef0", "Status": "pending"}`)
			return
		}
		room := rooms.Get().(*block)
		defer rooms.Put(room)
		_, err := io.ReadFull(r.Body, room[:])
		rest, _ := io.Copy(io.Discard, r.Body)
		sum := sha256.Sum256(room[:])
		checksum := base64.StdEncoding.EncodeToString(sum[:])
		if err != nil || rest > 0 || r.Header.Get("X-Amz-Checksum") != checksum {
			http.Error(w, "checksum", http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Amz-Checksum", checksum)
		w.WriteHeader(http.StatusCreated)
	})
}
