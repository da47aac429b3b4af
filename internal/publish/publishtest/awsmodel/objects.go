package awsmodel

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"sync"
)

// minPart is the least that S3 takes as a part that is not the last.
const minPart = 5 << 20

// objects are the uploads in parts, by ID: moto does not look at their checksums.
type objects struct {
	mu  sync.Mutex
	all map[string]map[int]part
}

// part is one of an upload.
type part struct {
	size     int
	checksum string
}

// before checks a request that sends a part, or joins them.
func (o *objects) before(r Request, body []byte) (bad []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	upload := o.all[text(r.Input["UploadId"])]
	switch r.Operation {
	case "UploadPart":
		sum := sha256.Sum256(body)
		if got := text(r.Input["ChecksumSHA256"]); got != base64.StdEncoding.EncodeToString(sum[:]) {
			bad = append(bad, fmt.Sprintf("part %v: checksum %q is not that of the data", r.Input["PartNumber"], got))
		}
	case "CompleteMultipartUpload":
		whole, _ := r.Input["MultipartUpload"].(map[string]any)
		list, _ := whole["Parts"].([]any)
		for i, entry := range list {
			said, _ := entry.(map[string]any)
			number, _ := strconv.Atoi(text(said["PartNumber"]))
			switch sent := upload[number]; {
			case number != i+1:
				bad = append(bad, fmt.Sprintf("part %d stands at place %d", number, i+1))
			case text(said["ChecksumSHA256"]) != sent.checksum:
				bad = append(bad, fmt.Sprintf("part %d: checksum %v, it came with %s", number, said["ChecksumSHA256"], sent.checksum))
			case sent.size < minPart && i < len(list)-1:
				bad = append(bad, fmt.Sprintf("part %d has %d bytes, at least %d", number, sent.size, minPart))
			}
		}
	}
	return bad
}

// after notes what the service has taken.
func (o *objects) after(r Request, body []byte) {
	if r.Status >= 300 || r.Operation != "UploadPart" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	id := text(r.Input["UploadId"])
	if o.all[id] == nil {
		o.all[id] = map[int]part{}
	}
	number, _ := strconv.Atoi(text(r.Input["PartNumber"]))
	o.all[id][number] = part{len(body), text(r.Input["ChecksumSHA256"])}
}
