// Package awsmodel holds requests to AWS against AWS's own description of its
// services, botocore's service-2.json, which says more than any emulator checks:
// required fields, enumerations, patterns, smallest and greatest values.
//
// What comes in is HTTP requests on their way to an emulator; what goes out is
// a record of them, and a list of what the real service would refuse. Blocks of
// EBS snapshots and parts of S3's objects are hashed again.
package awsmodel

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// model is one service's.
type model struct {
	Metadata struct {
		Protocol     string `json:"protocol"`
		TargetPrefix string `json:"targetPrefix"`
	} `json:"metadata"`
	Operations map[string]operation `json:"operations"`
	Shapes     map[string]*shape    `json:"shapes"`
}

type operation struct {
	HTTP struct {
		Method     string `json:"method"`
		RequestURI string `json:"requestUri"`
	} `json:"http"`
	Input *ref `json:"input"`
}

// ref is a use of a shape.
type ref struct {
	Shape        string `json:"shape"`
	Location     string `json:"location"`
	LocationName string `json:"locationName"`
	QueryName    string `json:"queryName"`
}

type shape struct {
	Type     string         `json:"type"`
	Members  map[string]ref `json:"members"`
	Required []string       `json:"required"`
	Enum     []string       `json:"enum"`
	Pattern  string         `json:"pattern"`
	Min      *float64       `json:"min"`
	Max      *float64       `json:"max"`
	Member   *ref           `json:"member"`
	Key      *ref           `json:"key"`
	Value    *ref           `json:"value"`
	Payload  string         `json:"payload"`
	// Flattened lists have their elements side by side with other fields, in XML.
	Flattened bool `json:"flattened"`

	expression *regexp.Regexp // of Pattern; nil where Go can't read it
}

// services are what is read, and the version of each one's API.
var services = map[string]string{
	"ec2": "2016-11-15", "ebs": "2019-11-02", "s3": "2006-03-01", "ssm": "2014-11-06", "sts": "2011-06-15",
}

// load reads the models of the botocore in a virtual environment.
func load(t testing.TB, venv string) map[string]*model {
	t.Helper()
	all := map[string]*model{}
	for service, version := range services {
		pattern := filepath.Join(venv, "lib/python*/site-packages/botocore/data", service, version, "service-2.json.gz")
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		if all[service], err = read(found[0]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func read(path string) (*model, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var m model
	if err := json.NewDecoder(plain).Decode(&m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range m.Shapes {
		if s.Pattern != "" {
			// Botocore's patterns are Java's, and match from the start to the end.
			s.expression, _ = regexp.Compile(`\A(?:` + s.Pattern + `)\z`)
		}
	}
	return &m, nil
}
