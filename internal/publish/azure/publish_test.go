package azure

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/azure/azuretest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// quick waits as little as a test can.
var quick = publish.Policy{Tries: 6, First: time.Millisecond, Longest: 10 * time.Millisecond}

// publisherOf makes a publisher for a server, with a target and a login of the
// test's.
func publisherOf(t testing.TB, s *server, target v1alpha1.AzureTarget, login *azuretest.Login) *Publisher {
	t.Helper()
	p, err := New(target, testEndpoint(s.proxy.URL, login))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// carryOut makes a plan and carries it out; the journal is at path.
func carryOut(t testing.TB, p *Publisher, path string, make func(publish.State) (*publish.Plan, error)) (*publish.Plan, error) {
	t.Helper()
	journal, err := publish.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = journal.Close() }()
	plan, err := make(journal.State())
	if err != nil {
		return nil, err
	}
	return plan, publish.Apply(t.Context(), plan, journal, publish.Options{Reporter: publishtest.Silent{}, Retry: quick})
}

func publishTo(t testing.TB, p *Publisher, image publish.Image, path string) (*publish.Plan, error) {
	t.Helper()
	return carryOut(t, p, path, func(earlier publish.State) (*publish.Plan, error) {
		return publish.MakePlan(t.Context(), p, image, earlier, quick)
	})
}

func retractFrom(t testing.TB, p *Publisher, image publish.Image, path string) (*publish.Plan, error) {
	t.Helper()
	return carryOut(t, p, path, func(earlier publish.State) (*publish.Plan, error) {
		return publish.MakeRetract(t.Context(), p, image.Digest, earlier, quick)
	})
}

func mustPublish(t testing.TB, p *Publisher, image publish.Image) *publish.Plan {
	t.Helper()
	plan, err := publishTo(t, p, image, filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return plan
}

// otherImage is an image with another disk than testImage's.
func otherImage(content string) publish.Image {
	image := testImage()
	disk := formattest.NewDisk(diskMiB * mib)
	disk.Put(mib, []byte(content))
	image.Disk, image.Digest = disk, digest.FromString(content)
	return image
}

// actionOf is what a plan does to things of a kind.
func actionOf(plan *publish.Plan, kind string) publish.Action {
	i := slices.IndexFunc(plan.Steps, func(s publish.Step) bool { return s.Kind == kind })
	if i < 0 {
		return ""
	}
	return plan.Steps[i].Action
}

// putPages matches requests that write pages.
func putPages(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Get("comp") == "page"
}

// refused is how the blob service answers credentials that are no longer good.
var refused = faultproxy.Answer(http.StatusForbidden,
	http.Header{"X-Ms-Error-Code": {"AuthenticationFailed"}, "Content-Type": {"application/xml"}},
	`<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Signature not valid in the specified time frame: se=2026-11-26 sig=c2VjcmV0</Message></Error>`)

func TestPublishing(t *testing.T) {
	s := startServer(t, "straight into a disk")
	for name, test := range map[string]func(*testing.T, *server){
		"a signed address that expires is asked for anew": signedAddressExpires,
		"a signed address is in no journal and no error":  signedAddressStaysSecret,
		"a slow server is waited for":                     slowServer,
		"an expired login fails, and the next goes on":    expiredLogin,
		"what was not booted is not the latest":           notBooted,
		"regions and their counts follow the target":      regionsFollow,
		"galleries are shared":                            sharing,
		"names of versions are not used twice":            namesAreUsedOnce,
		"a name that is taken is refused":                 nameTaken,
		"a definition that does not fit is refused":       doesNotFit,
	} {
		t.Run(name, func(t *testing.T) {
			defer s.proxy.Clear()
			defer s.resources.Clear()
			test(t, s)
		})
	}
}

func signedAddressExpires(t *testing.T, s *server) {
	s.proxy.Add(faultproxy.Fault{Match: putPages, Skip: 2, Times: 2, Do: refused})
	image := testImage()
	mustPublish(t, publisherOf(t, s, testTarget(nil), &azuretest.Login{}), image)
	s.Check(t, image, true)
}

func signedAddressStaysSecret(t *testing.T, s *server) {
	secret := func(text string) bool { return strings.Contains(text, "sig=") && !strings.Contains(text, "sig=...") }
	for name, do := range map[string]faultproxy.Effect{"refused": refused, "cut": faultproxy.CutRequest(0)} {
		s.proxy.Add(faultproxy.Fault{Match: putPages, Times: -1, Do: do})
		journal := filepath.Join(t.TempDir(), "journal")
		_, err := publishTo(t, publisherOf(t, s, testTarget(nil), &azuretest.Login{}), testImage(), journal)
		if err == nil || secret(err.Error()) || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
		noted, errRead := os.ReadFile(journal)
		if errRead != nil || secret(string(noted)) || len(noted) == 0 {
			t.Errorf("%s: the journal has %q: %v", name, noted, errRead)
		}
		s.proxy.Clear()
	}
}

func slowServer(t *testing.T, s *server) {
	s.proxy.Add(faultproxy.Fault{Times: -1, Do: faultproxy.Slow(5 * time.Millisecond)})
	image := testImage()
	mustPublish(t, publisherOf(t, s, testTarget(nil), &azuretest.Login{}), image)
	s.Check(t, image, true)
}

func expiredLogin(t *testing.T, s *server) {
	journal := filepath.Join(t.TempDir(), "journal")
	login := &azuretest.Login{}
	login.Expired.Store(1)
	_, err := publishTo(t, publisherOf(t, s, testTarget(viaBlob), login), testImage(), journal)
	if r, ok := errors.AsType[*refusal](err); !ok || r.code != "AuthenticationFailed" || !strings.Contains(fault.RemedyOf(err), "az login") {
		t.Errorf("with an expired token: %v (%s)", err, fault.RemedyOf(err))
	}
	image := testImage()
	if _, err := publishTo(t, publisherOf(t, s, testTarget(viaBlob), &azuretest.Login{}), image, journal); err != nil {
		t.Fatal(err)
	}
	s.Check(t, image, true)
}

func notBooted(t *testing.T, s *server) {
	image := testImage()
	image.Level = publish.Contract
	p := publisherOf(t, s, testTarget(nil), &azuretest.Login{})
	mustPublish(t, p, image)
	made := s.resources.Version("debian-12/1.34.2000001")
	if made == nil || !*made.Properties.PublishingProfile.ExcludeFromLatest || tag(made.Tags, publish.TagLevel) != "contract" {
		t.Fatalf("made %+v", made)
	}
	image.Level = publish.Cluster
	if plan := mustPublish(t, p, image); actionOf(plan, "image version") != publish.Change || plan.Bytes() != 0 {
		t.Errorf("when it is proven the plan is %+v", plan.Steps)
	}
	made = s.resources.Version("debian-12/1.34.2000001")
	if *made.Properties.PublishingProfile.ExcludeFromLatest || tag(made.Tags, publish.TagLevel) != "cluster" {
		t.Errorf("changed to %+v", made.Properties.PublishingProfile)
	}
	if plan := mustPublish(t, p, image); actionOf(plan, "image version") != publish.Exists {
		t.Errorf("then the plan is %+v", plan.Steps)
	}
}

func regionsFollow(t *testing.T, s *server) {
	image := testImage()
	mustPublish(t, publisherOf(t, s, testTarget(nil), &azuretest.Login{}), image)
	more := testTarget(func(a *v1alpha1.AzureTarget) {
		a.Gallery.Regions = []v1alpha1.AzureRegion{{Name: "eastus", Replicas: 3, StorageType: "Standard_ZRS"}}
		a.Gallery.EndOfLife = "2027-06-30"
	})
	mustPublish(t, publisherOf(t, s, more, &azuretest.Login{}), image)
	var regions []string
	for _, region := range s.resources.Version("debian-12/1.34.2000001").Properties.PublishingProfile.TargetRegions {
		regions = append(regions, *region.Name)
	}
	if !slices.Equal(regions, []string{"westeurope", "eastus"}) {
		t.Errorf("regions are %q", regions)
	}
}

func sharing(t *testing.T, s *server) {
	image := testImage()
	tenant := "6ba7b812-9dad-11d1-80b4-00c04fd430c8"
	direct := testTarget(func(a *v1alpha1.AzureTarget) { a.Gallery.Sharing.Tenants = []string{tenant} })
	mustPublish(t, publisherOf(t, s, testTarget(nil), &azuretest.Login{}), image)
	plan := mustPublish(t, publisherOf(t, s, direct, &azuretest.Login{}), image)
	if actionOf(plan, "gallery") != publish.Change || actionOf(plan, "sharing") != publish.Change {
		t.Errorf("the plan is %+v", plan.Steps)
	}
	if plan := mustPublish(t, publisherOf(t, s, direct, &azuretest.Login{}), image); actionOf(plan, "sharing") != publish.Exists {
		t.Errorf("the second plan is %+v", plan.Steps)
	}
	s.resources.Clear()
	public := testTarget(func(a *v1alpha1.AzureTarget) {
		a.Gallery.Sharing.Community = &v1alpha1.AzureCommunity{Public: true, NamePrefix: "nodes", PublisherURI: "https://example.com", PublisherContact: "a@example.com", EULA: "none"}
	})
	mustPublish(t, publisherOf(t, s, public, &azuretest.Login{}), image)
	if plan := mustPublish(t, publisherOf(t, s, public, &azuretest.Login{}), image); actionOf(plan, "sharing") != publish.Exists {
		t.Errorf("the second plan of a public gallery is %+v", plan.Steps)
	}
}

func namesAreUsedOnce(t *testing.T, s *server) {
	p := publisherOf(t, s, testTarget(nil), &azuretest.Login{})
	first, second, third := otherImage("one"), otherImage("two"), otherImage("three")
	mustPublish(t, p, first)
	mustPublish(t, p, second)
	if _, err := retractFrom(t, p, second, filepath.Join(t.TempDir(), "journal")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, third)
	for name, image := range map[string]*publish.Image{"1.34.2000001": &first, "1.34.2000002": nil, "1.34.2000003": &third} {
		switch made := s.resources.Version("debian-12/" + name); {
		case made == nil && image != nil, made != nil && image == nil:
			t.Errorf("version %s is %v", name, made)
		case made != nil && tag(made.Tags, publish.TagDigest) != image.Digest.String():
			t.Errorf("version %s is of %s", name, tag(made.Tags, publish.TagDigest))
		}
	}
}

func nameTaken(t *testing.T, s *server) {
	named := testTarget(func(a *v1alpha1.AzureTarget) { a.Gallery.Version = "1.34.2" })
	p := publisherOf(t, s, named, &azuretest.Login{})
	mustPublish(t, p, otherImage("one"))
	if _, err := publishTo(t, p, otherImage("two"), filepath.Join(t.TempDir(), "journal")); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("got %v", err)
	}
}

func doesNotFit(t *testing.T, s *server) {
	p := publisherOf(t, s, testTarget(nil), &azuretest.Login{})
	mustPublish(t, p, otherImage("one"))
	bios := otherImage("two")
	bios.Firmware = []string{"bios"}
	bios.SecureBoot = false
	before := s.proxy.Requests()
	if _, err := publishTo(t, p, bios, filepath.Join(t.TempDir(), "journal")); fault.KindOf(err) != fault.BadSpec || fault.RemedyOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if n := s.proxy.Requests() - before; n > 5 {
		t.Errorf("%d requests were made before it was refused", n)
	}
}
