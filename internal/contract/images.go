package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/kubernetes"
)

// defaultRepository is kubeadm's own (cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go).
const defaultRepository = "registry.k8s.io"

// addonTags are the tags of the images whose version is not Kubernetes' own.
type addonTags struct{ etcd, coredns, pause string }

// knownTags are what kubeadm of a version asks for, from
// cmd/kubeadm/app/constants/constants.go of that version. For versions that are
// not here the tags are looked up in the image's kubeadm.
var knownTags = map[string]addonTags{
	"v1.34.0": {"3.6.4-0", "v1.12.1", "3.10.1"},
	"v1.35.6": {"3.6.6-0", "v1.13.1", "3.10.1"},
	"v1.36.4": {"3.6.8-0", "v1.14.2", "3.10.2"},
	"v1.37.2": {"3.7.0-0", "v1.14.6", "3.10.2"},
}

// wanted returns the tags that kubeadm of this image asks for, by the images'
// short names, and where that is known from. A tag that is not known is "".
func (n *node) wanted() (tags map[string]string, source string, err error) {
	kubeadm := n.program("kubeadm")
	if kubeadm.err != nil || kubeadm.version == "" {
		return nil, "", errors.New("the version of kubeadm is unknown, and with it the images that it asks for")
	}
	// An image's tag cannot have a plus (kubeadm, util.KubernetesVersionToImageTag).
	tag := strings.ReplaceAll(kubeadm.version, "+", "_")
	tags = map[string]string{}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		tags[name] = tag
	}
	if known, ok := knownTags[kubeadm.version]; ok {
		tags["etcd"], tags["coredns"], tags["pause"] = known.etcd, known.coredns, known.pause
		return tags, "the source of kubeadm " + kubeadm.version, nil
	}
	tags["etcd"], tags["coredns"], tags["pause"] = "", "", ""
	if row, err := kubernetes.Lookup(kubeadm.version); err == nil {
		tags["pause"] = row.Pause
	}
	etcd, err := n.newestEtcd(kubeadm.path)
	if err != nil {
		return nil, "", err
	}
	tags["etcd"] = etcd
	return tags, "the strings in " + kubeadm.path + "; the tag of coredns is only looked for in it", nil
}

// etcdTag has the shape of etcd's image tags: release and revision of the image.
var etcdTag = regexp.MustCompile(`3\.([5-9])\.(\d{1,2})-(\d)`)

// newestEtcd finds etcd's tag in a kubeadm binary: it knows the etcd of older
// control planes too, and its own is the newest of them.
func (n *node) newestEtcd(kubeadm string) (string, error) {
	best, bestKey := "", ""
	err := n.scan(kubeadm, func(piece []byte) {
		for _, m := range etcdTag.FindAll(piece, -1) {
			release, revision, _ := strings.Cut(string(m), "-")
			key := "v" + release + "-" + revision
			if semver.Compare(key, bestKey) > 0 {
				best, bestKey = string(m), key
			}
		}
	})
	if err == nil && best == "" {
		err = fmt.Errorf("%s does not tell which etcd it asks for", kubeadm)
	}
	return best, err
}

// mentions reports whether a program's text has a string in it.
func (n *node) mentions(program, text string) (found bool, err error) {
	err = n.scan(program, func(piece []byte) { found = found || bytes.Contains(piece, []byte(text)) })
	return found, err
}

// scan reads a file in pieces that overlap by more than any string looked for.
func (n *node) scan(name string, visit func(piece []byte)) error {
	const size, overlap = 4 << 20, 64
	content, err := n.tree.Content(name)
	if err != nil {
		return err
	}
	buffer := make([]byte, size)
	for at := int64(0); at < content.Size(); at += size - overlap {
		k, err := content.ReadAt(buffer, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		visit(buffer[:k])
	}
	return nil
}

// imageChecks look at the container images in containerd's store.
var imageChecks = []Check{
	{
		ID: "images.store", Title: "containerd's store can be read", Severity: Required,
		Why: "A store that containerd cannot open is an empty one: every pod has to be pulled.",
		How: "The metadata database of containerd, its namespace k8s.io, read without containerd.",
		run: func(n *node, r *result) {
			s, err := n.store()
			if err != nil {
				r.fail("%v", err)
				return
			}
			for _, name := range sortedKeys(s.images) {
				if _, tag := splitImage(name); tag != "" && !strings.HasPrefix(name, "sha256:") {
					r.note("%s %s", name, s.images[name].target.Digest)
				}
			}
		},
	},
	{
		ID: "images.complete", Title: "Every container image that kubeadm asks for is there", Severity: Required,
		Why: "A node joins without pulling: in a private network it cannot, and a registry's outage would be the cluster's.",
		How: "The names in containerd's store against kubeadm's list: Kubernetes' own images by the version in kubeadm; etcd, coredns and pause by the constants of that kubeadm, or by the strings in the program when the version is not known here; pause also by the minor version.",
		run: checkImages,
	},
	{
		ID: "images.repository", Title: "The images come under one repository", Severity: Required,
		Why: "kubeadm looks all of them up below one imageRepository, which is " + defaultRepository + " unless the cluster says otherwise.",
		How: "The repository of kubeadm's images is the same for all; for a version without build metadata it is " + defaultRepository + ".",
		run: checkRepository,
	},
	{
		ID: "images.content", Title: "No blob of an image is missing or changed", Severity: Required,
		Why: "containerd does not verify what is in its store already: a damaged layer is found when it is unpacked or pushed, on the node.",
		How: "Manifest, configuration and layers of every image: the file is there, has the size of its descriptor, and its SHA-256 is its name.",
		run: checkBlobs,
	},
	{
		ID: "images.platform", Title: "The images are for the node's architecture", Severity: Required,
		Why: "An image of another architecture fails with \"exec format error\".",
		How: "os and architecture in every image's configuration.",
		run: func(n *node, r *result) {
			n.eachImage(func(name string, record imageRecord) {
				c, err := n.resolve(record.target)
				if err != nil {
					return // images.content says so
				}
				if c.config.OS != "linux" || c.config.Architecture != n.architecture {
					r.fail("%s is for %s/%s", name, c.config.OS, c.config.Architecture)
				}
			})
		},
	},
	{
		ID: "images.unpacked", Title: "The images are unpacked", Severity: Recommended,
		Why: "Unpacking takes the first pods' time, on every node.",
		How: "containerd's metadata has an overlayfs snapshot for the chain of every image's layers, and its directory is there.",
		run: checkSnapshots,
	},
	{
		ID: "images.managed", Title: "The images are known to CRI", Severity: Recommended,
		Why: "The kubelet sees, counts and protects only images that bear CRI's label.",
		How: "The label io.cri-containerd.image=managed on every name.",
		run: func(n *node, r *result) {
			n.eachImage(func(name string, record imageRecord) {
				if record.labels["io.cri-containerd.image"] != "managed" {
					r.fail("%s has no label io.cri-containerd.image=managed", name)
				}
			})
		},
	},
}

// eachImage visits the images by name, digests left out.
func (n *node) eachImage(visit func(name string, record imageRecord)) {
	s, err := n.store()
	if err != nil {
		return // images.store says so
	}
	for _, name := range sortedKeys(s.images) {
		if _, tag := splitImage(name); tag != "" && !strings.HasPrefix(name, "sha256:") {
			visit(name, s.images[name])
		}
	}
}

func checkImages(n *node, r *result) {
	want, source, err := n.wanted()
	if err != nil {
		r.fail("%v", err)
		return
	}
	if _, err := n.store(); err != nil {
		return // images.store says so
	}
	r.note("tags from %s", source)
	have := map[string][]string{} // short name to tags
	n.eachImage(func(name string, _ imageRecord) {
		repository, tag := splitImage(name)
		have[path.Base(repository)] = append(have[path.Base(repository)], tag)
	})
	kubeadm := n.program("kubeadm").path
	for _, name := range sortedKeys(want) {
		tag := want[name]
		if tag != "" {
			if !slices.Contains(have[name], tag) {
				r.fail("there is no %s:%s (there is %q)", name, tag, have[name])
			}
			continue
		}
		known := false
		for _, tag := range have[name] {
			found, err := n.mentions(kubeadm, tag)
			if err != nil {
				r.fail("%v", err)
			}
			known = known || found
		}
		if !known {
			r.fail("there is no %s with a tag that %s has in it (there is %q)", name, kubeadm, have[name])
		}
	}
}

func checkRepository(n *node, r *result) {
	want, _, err := n.wanted()
	if err != nil {
		return // images.complete says so
	}
	var first string
	n.eachImage(func(name string, _ imageRecord) {
		repository, tag := splitImage(name)
		short := path.Base(repository)
		if wantTag, ok := want[short]; !ok || wantTag != "" && tag != wantTag {
			return
		}
		at := path.Dir(repository)
		if short == "coredns" { // the only one below a directory of its own
			at = strings.TrimSuffix(at, "/coredns")
		}
		if first == "" {
			first = at
		}
		release, metadata, _ := strings.Cut(n.kubernetes, "+")
		switch {
		case metadata == "" && release != "" && at != defaultRepository:
			r.fail("%s is not below %s", name, defaultRepository)
		case at != first:
			r.fail("%s is not below %s, like others", name, first)
		}
	})
}

func checkBlobs(n *node, r *result) {
	d := digester{seen: map[digest.Digest]int64{}}
	d.group, d.ctx = errgroup.WithContext(n.ctx)
	d.group.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	n.eachImage(func(name string, record imageRecord) {
		c, err := n.resolve(record.target)
		if err != nil {
			r.fail("%s: %v", name, err)
			// The blobs that are known are verified all the same.
		}
		for _, blob := range c.blobs {
			if err := d.verify(n, blob); err != nil {
				r.fail("%s: %v", name, err)
			}
		}
	})
	if err := d.group.Wait(); err != nil {
		r.fail("%v", err)
	}
	slices.Sort(d.bad)
	for _, b := range d.bad {
		r.fail("%s", b)
	}
	r.note("%d blobs, %d bytes", len(d.seen), d.bytes)
}

func checkSnapshots(n *node, r *result) {
	s, err := n.store()
	if err != nil {
		return // images.store says so
	}
	n.eachImage(func(name string, record imageRecord) {
		c, err := n.resolve(record.target)
		if err != nil {
			return // images.content says so
		}
		chain := identity.ChainID(slices.Clone(c.config.RootFS.DiffIDs)).String()
		key, ok := s.snapshots[chain]
		if !ok {
			r.fail("%s is not unpacked", name)
			return
		}
		if id, ok := s.overlay[key]; !ok || !n.tree.Exists(path.Join(overlayDir, "snapshots", strconv.FormatUint(id, 10), "fs")) {
			r.fail("%s: the snapshot %q is missing", name, key)
		}
	})
}
