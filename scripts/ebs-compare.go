//go:build ignore

// ebs-compare reads an EBS snapshot back and compares it with the disk of an image
// file, byte by byte: blocks that the snapshot lacks have to be zeros on the disk.
//
//	go run scripts/ebs-compare.go REGION SNAPSHOT FILE
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: ebs-compare REGION SNAPSHOT FILE")
	}
	if err := compare(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func compare(ctx context.Context, region, id, path string) error {
	disk, err := known.OpenFile(path, "")
	if err != nil {
		return err
	}
	defer disk.Close()
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return err
	}
	// The SDK tries again by itself here.
	once := func(ctx context.Context, request func(context.Context) error) error { return request(ctx) }
	var mu sync.Mutex
	there := map[int32]bool{}
	err = snapshot.Read(ctx, ebs.NewFromConfig(c), id, once, func(index int32, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		there[index] = true
		return same(disk, index, data)
	})
	if err != nil {
		return err
	}
	zeros := make([]byte, snapshot.BlockSize)
	for index := range int32((disk.Size() + snapshot.BlockSize - 1) / snapshot.BlockSize) {
		if !there[index] {
			if err := same(disk, index, zeros); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%s holds %s: %d blocks, and zeros\n", id, path, len(there))
	return nil
}

// same holds a block against the disk, behind whose end are zeros.
func same(disk format.Source, index int32, data []byte) error {
	want := make([]byte, snapshot.BlockSize)
	if _, err := disk.ReadAt(want, int64(index)*snapshot.BlockSize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(want, data) {
		return fmt.Errorf("block %d of the snapshot is not the disk's", index)
	}
	return nil
}
