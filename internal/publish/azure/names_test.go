package azure

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/publish"
)

func TestTheNextBuildsNumber(t *testing.T) {
	for name, test := range map[string]struct {
		kubernetes string
		there      []string
		want       string // "" for an error
	}{
		"the first":                       {"v1.34.2", nil, "1.34.2000001"},
		"the first of a minor version":    {"v1.34.0", nil, "1.34.1"},
		"one more than the highest":       {"v1.34.2", []string{"1.34.2000001", "1.34.2000007", "1.34.2000003"}, "1.34.2000008"},
		"of its own patch":                {"v1.34.2", []string{"1.34.1000009", "1.34.3000004", "1.33.2000005", "2.34.2000005"}, "1.34.2000001"},
		"others have other names":         {"v1.34.2", []string{"1.34.2", "latest", "", "1.34", "1.34.2000001.1"}, "1.34.2000001"},
		"a vendor's build of Kubernetes":  {"v1.27.5+vmware.1", nil, "1.27.5000001"},
		"of the highest possible patch":   {"v1.34.2146", nil, "1.34.2146000001"},
		"beyond 31 bits":                  {"v1.34.2147", []string{"1.34.2147483647"}, ""},
		"a pre-release of Kubernetes":     {"v1.34.0-rc.1", nil, ""},
		"what is no version":              {"latest", nil, ""},
		"when the patch's numbers are up": {"v1.34.2", []string{"1.34.2999999"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nextNumber(test.kubernetes, test.there)
			if test.want == "" {
				if fault.KindOf(err) != fault.BadSpec {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || got.String() != test.want {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestSetsOfBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	set := func() (ranges, [64]bool) {
		var s ranges
		var bits [64]bool
		for at := int64(r.IntN(5)); at < 60; at += int64(r.IntN(9)) {
			e := format.Extent{Offset: at, Length: 1 + int64(r.IntN(4))}
			s = s.add(e)
			for i := e.Offset; i < e.End(); i++ {
				bits[i] = true
			}
			at = e.End()
		}
		return s, bits
	}
	for range 2000 {
		a, aBits := set()
		b, bBits := set()
		rest := a.without(b)
		for i := range aBits {
			one := format.Extent{Offset: int64(i), Length: 1}
			if a.cover(one) != aBits[i] || rest.cover(one) != (aBits[i] && !bBits[i]) {
				t.Fatalf("byte %d of %v without %v: %v", i, a, b, rest)
			}
		}
		from, length := r.IntN(60), 1+r.IntN(4)
		all := !slices.Contains(aBits[from:from+length], false)
		if a.cover(format.Extent{Offset: int64(from), Length: int64(length)}) != all {
			t.Fatalf("%d bytes at %d of %v: all there is %v", length, from, a, all)
		}
	}
}

func TestTheWaterlineTellsOfWhatAllArrivedBefore(t *testing.T) {
	var told []int64
	w := newWaterline(func(offset int64) error { told = append(told, offset); return nil })
	a, b, c := w.begin(noteEvery), w.begin(2*noteEvery), w.begin(3*noteEvery)
	for _, m := range []*mark{c, a, b} {
		if err := w.done(m); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(told, []int64{noteEvery, 3 * noteEvery}) {
		t.Errorf("told %v", told)
	}
}

func TestADefinitionPromisesWhatWasProven(t *testing.T) {
	image := testImage()
	unproven := testImage()
	unproven.SecureBoot = false
	biosAlone := testImage()
	biosAlone.Firmware = []string{"bios"}
	for name, test := range map[string]struct {
		image    publish.Image
		change   func(*v1alpha1.AzureTarget)
		hyperV   armcompute.HyperVGeneration // "" for an error
		security string
	}{
		"started with Secure Boot":             {image, nil, "V2", "TrustedLaunchSupported"},
		"not started with it":                  {unproven, nil, "V2", ""},
		"for BIOS":                             {biosAlone, nil, "V1", ""},
		"for BIOS as wanted":                   {image, func(a *v1alpha1.AzureTarget) { a.Gallery.Generation = "V1" }, "V1", ""},
		"another type, as wanted":              {image, func(a *v1alpha1.AzureTarget) { a.Gallery.SecurityType = "TrustedLaunch" }, "V2", "TrustedLaunch"},
		"a type that was not proven":           {unproven, func(a *v1alpha1.AzureTarget) { a.Gallery.SecurityType = "TrustedLaunch" }, "", ""},
		"a type that generation 1 does not do": {biosAlone, func(a *v1alpha1.AzureTarget) { a.Gallery.SecurityType = "TrustedLaunch" }, "", ""},
		"for UEFI, which it does not boot by":  {biosAlone, func(a *v1alpha1.AzureTarget) { a.Gallery.Generation = "V2" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := definitionBody(testTarget(test.change), "d", &test.image)
			if test.hyperV == "" {
				if fault.KindOf(err) != fault.BadSpec || fault.RemedyOf(err) == "" {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || *body.Properties.HyperVGeneration != test.hyperV || feature(body.Properties.Features, featureSecurity) != test.security {
				t.Errorf("got %+v, %v", body.Properties, err)
			}
		})
	}
}

func TestADefinitionThatIsThereFitsOrNot(t *testing.T) {
	proven, unproven := testImage(), testImage()
	unproven.SecureBoot = false
	there, err := definitionBody(testTarget(nil), "d", &proven)
	if err != nil {
		t.Fatal(err)
	}
	weaker, err := definitionBody(testTarget(nil), "d", &unproven)
	if err != nil {
		t.Fatal(err)
	}
	if err := fits("d", &there, there); err != nil {
		t.Errorf("it does not fit itself: %v", err)
	}
	if err := fits("d", &weaker, there); err != nil {
		t.Errorf("more than is promised does not fit: %v", err)
	}
	if err := fits("d", &there, weaker); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("less than is promised fits: %v", err)
	}
	arm := there
	properties := *there.Properties
	properties.Architecture = to.Ptr(armcompute.ArchitectureArm64)
	arm.Properties = &properties
	if err := fits("d", &arm, there); fault.KindOf(err) != fault.BadSpec {
		t.Errorf("another architecture fits: %v", err)
	}
}
